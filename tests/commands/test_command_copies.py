"""Each row of CopyCommand: the right bytes arrive, and nothing is left of the way."""

from __future__ import annotations

import pytest

from bollard.core.spi import Call
from bollard.transfer_objects.commands import CopyCmdAnswer, CopyCommand, CreateObjectCommand
from bollard.transfer_objects.details import Details
from bollard.transfer_objects.objects import DataTO
from command_rig import ARRAY, FILES, MIB, NFS, POOLS, SIZE, STORES, cut_id, noise, snapshot, template, volume

pools = pytest.mark.parametrize("pool", POOLS)
stores = pytest.mark.parametrize("store", STORES)


def _copy(orders, source, to, **options):
    answer = orders.do(CopyCommand(source=source, destination=to, source_options=Details(options)))
    assert isinstance(answer, CopyCmdAnswer)
    assert answer.new_data
    return answer.new_data


@stores
@pools
def test_a_volume_to_secondary_and_back(orders, name, pool, store):
    """A volume comes back from each store byte by byte; the copy on the store is the newest one."""
    source = orders.make(volume(name("vol"), POOLS[pool]))
    first = _copy(orders, source, volume(source.uuid, STORES[store]))
    orders.write(source, noise("newer"))
    second = _copy(orders, source, volume(source.uuid, STORES[store]))
    assert first.path == second.path == f"archive/{source.uuid}/volume-copy"
    back = volume(name("back"), POOLS[pool])
    _copy(orders, second, back)
    assert orders.read(back) == noise("newer")
    assert orders.leftovers() == []


@stores
@pools
def test_a_snapshot_is_backed_up(orders, name, pool, store):
    """A backup shows the instant of the snapshot; it leaves a pool of files, and stays on an array."""
    source = orders.make(volume(name("vol"), POOLS[pool]))
    cut = orders.do(CreateObjectCommand(data=snapshot(7, source))).data
    orders.write(source, noise("later"))
    backed_up = _copy(orders, cut, snapshot(7, source, STORES[store]))
    assert backed_up.path == f"archive/{source.uuid}/{cut_id(7, source)}"
    assert 0 < backed_up.physical_size < SIZE
    assert orders.archived(store, source.uuid, cut_id(7, source)) == noise(source.uuid)
    assert orders.snapshots(source) == ({cut_id(7, source)} if pool == "array" else set())
    assert _copy(orders, cut, snapshot(7, source, STORES[store])) == backed_up
    assert orders.leftovers() == []


def test_a_temporary_backup_leaves_the_snapshot(orders, name):
    """With backup to secondary switched off the snapshot stays on the pool of files."""
    source = orders.make(volume(name("vol"), FILES))
    cut = orders.do(CreateObjectCommand(data=snapshot(7, source))).data
    _copy(orders, cut, snapshot(7, source, NFS), **{"snapshot.backup.to.secondary": "false"})
    assert orders.snapshots(source) == {cut_id(7, source)}


@pytest.mark.parametrize("full", ["true", "false"])
def test_an_increment_names_its_parent(orders, name, full):
    """The last of the parents that lies in the archive becomes the parent, unless a full is asked for."""
    source = orders.make(volume(name("vol"), ARRAY))
    first = orders.do(CreateObjectCommand(data=snapshot(1, source))).data
    parent = _copy(orders, first, snapshot(1, source, NFS))
    orders.write(source, noise("second"))
    second = orders.do(CreateObjectCommand(data=snapshot(2, source, parents=(parent.path,)))).data
    _copy(orders, second, snapshot(2, source, NFS), fullSnapshot=full)
    manifest = orders.site.archive("nfs").show(_call(), volume=source.uuid, snapshot=cut_id(2, source))
    assert manifest.parent == (None if full == "true" else cut_id(1, source))
    assert orders.archived("nfs", source.uuid, cut_id(2, source)) == noise("second")


@pytest.mark.parametrize("to", POOLS)
@pools
def test_a_snapshot_becomes_a_volume_anywhere(orders, name, pool, to):
    """From a pool or from its backup, to the same pool or another, larger if asked: the same bytes."""
    source = orders.make(volume(name("vol"), POOLS[pool]))
    cut = orders.do(CreateObjectCommand(data=snapshot(3, source))).data
    direct = volume(name("direct"), POOLS[to], size=SIZE + MIB)
    made = _copy(orders, cut, direct)
    assert made.size == SIZE + MIB
    assert orders.read(direct) == noise(source.uuid) + bytes(MIB)
    backed_up = _copy(orders, cut, snapshot(3, source, NFS))
    restored = volume(name("restored"), POOLS[to])
    _copy(orders, backed_up, restored)
    assert orders.read(restored) == noise(source.uuid)
    assert orders.leftovers() == []


@pytest.mark.parametrize("to", POOLS)
@pools
def test_a_volume_is_copied_between_pools(orders, name, pool, to):
    """The copy has the bytes, also onto a volume that was made before; the source stays."""
    source = orders.make(volume(name("vol"), POOLS[pool]))
    target = orders.make(volume(name("copy"), POOLS[to]), noise("old"))
    _copy(orders, source, target)
    _copy(orders, source, target)
    assert orders.read(target) == noise(source.uuid)
    assert orders.exists(source)
    assert orders.leftovers() == []


@stores
@pools
def test_a_template_from_a_snapshot_to_many_volumes(orders, name, pool, store):
    """Snapshot, template, seed on the pool, volumes of it, one of them larger: each has the bytes."""
    source = orders.make(volume(name("vol"), POOLS[pool]))
    cut = orders.do(CreateObjectCommand(data=snapshot(5, source))).data
    image = _copy(orders, cut, template(name("tpl"), STORES[store]))
    seed = template(image.uuid, POOLS[pool])
    for _ in range(2):
        on_pool = _copy(orders, image, seed)
    small, large = volume(name("root"), POOLS[pool]), volume(name("root"), POOLS[pool], size=SIZE + MIB)
    for made in (small, large, large):
        _copy(orders, on_pool, made)
    assert orders.read(small) == noise(source.uuid)
    assert orders.read(large) == noise(source.uuid) + bytes(MIB)
    straight = volume(name("straight"), POOLS[pool])
    _copy(orders, image, straight)
    assert orders.read(straight) == noise(source.uuid)
    assert orders.leftovers() == []


@pytest.mark.parametrize("kind", ["volume", "backup"])
def test_a_template_from_other_sources(orders, name, kind):
    """A template is made from a volume, and from a snapshot that is on secondary storage only."""
    source = orders.make(volume(name("vol"), FILES))
    origin = source
    if kind == "backup":
        cut = orders.do(CreateObjectCommand(data=snapshot(5, source))).data
        origin = _copy(orders, cut, snapshot(5, source, NFS))
    image = _copy(orders, origin, template(name("tpl"), NFS))
    assert image.size == SIZE
    assert orders.archived("nfs", image.uuid, "template") == noise(source.uuid)


def test_a_made_template_never_changes(orders, name):
    """The same template asked for again is the one that is there, whatever its volume holds by now."""
    source = orders.make(volume(name("vol"), FILES))
    wanted = template(name("tpl"), NFS)
    _copy(orders, source, wanted)
    orders.write(source, noise("changed"))
    _copy(orders, source, wanted)
    assert orders.archived("nfs", wanted.uuid, "template") == noise(source.uuid)


@pytest.mark.parametrize("kind", ["volume", "snapshot", "template"])
def test_between_two_stores(orders, name, kind):
    """What is on one store is copied to another under the same path."""
    source = orders.make(volume(name("vol"), FILES))
    there: DataTO
    to: DataTO
    match kind:
        case "volume":
            there, to = _copy(orders, source, volume(source.uuid, NFS)), volume(source.uuid, STORES["s3"])
        case "snapshot":
            cut = orders.do(CreateObjectCommand(data=snapshot(5, source))).data
            there, to = _copy(orders, cut, snapshot(5, source, NFS)), snapshot(5, source, STORES["s3"])
        case _:
            wanted = name("tpl")
            there = _copy(orders, source, template(wanted, NFS))
            to = template(wanted, STORES["s3"])
    moved = _copy(orders, there, to)
    assert moved.path == there.path
    _, at, key = str(there.path).split("/")
    assert orders.archived("s3", at, key) == noise(source.uuid)


@pytest.mark.parametrize("case", ["template to template", "snapshot to primary", "volume as snapshot"])
def test_rows_that_are_no_rows(orders, name, case):
    """A copy that no row has is refused as unsupported or invalid, and nothing was done."""
    source = volume(name("vol"), ARRAY)
    pair = {
        "template to template": (template(name("t"), ARRAY), template(name("t"), ARRAY)),
        "snapshot to primary": (snapshot(1, source), snapshot(1, source)),
        "volume as snapshot": (source, snapshot(1, source, NFS)),
    }[case]
    told = orders.refused(CopyCommand(source=pair[0], destination=pair[1]))
    assert told.startswith(("unsupported (not_applied)", "invalid_argument (not_applied)"))


def test_input_is_checked_before_anything_is_done(orders, name):
    """A target that is too small, a volume onto itself, a missing end: refused, and nothing is touched."""
    source = orders.make(volume(name("vol"), FILES))
    small = orders.make(volume(name("small"), ARRAY, size=MIB), noise("small", MIB))
    assert "less than" in orders.refused(CopyCommand(source=source, destination=small))
    assert "itself" in orders.refused(CopyCommand(source=source, destination=source))
    assert "no destination" in orders.refused(CopyCommand(source=source))
    assert "no source" in orders.refused(CopyCommand(destination=source))
    assert orders.read(small) == noise("small", MIB)


def _call() -> Call:

    return Call.within(30)


def test_copies_of_a_volume_to_two_destinations_are_two(orders, name):
    """A later copy under another uuid leaves the earlier one with its bytes."""
    source = orders.make(volume(name("vol"), FILES), noise("early"))
    early, late = volume(name("copy"), NFS), volume(name("copy"), NFS)
    made = orders.do(CopyCommand(source=source, destination=early)).new_data
    orders.write(source, noise("late"))
    orders.do(CopyCommand(source=source, destination=late))
    for copied, content in ((early, "early"), (made, "early"), (late, "late")):
        to = volume(name("back"), FILES)
        orders.do(CopyCommand(source=copied, destination=to))
        assert orders.read(to) == noise(content)


def test_a_path_does_not_say_what_a_copy_replaces(orders, name):
    """A volume whose path, on its pool or on the store, is an archived snapshot's is not copied over that."""
    source = orders.make(volume(name("vol"), FILES))
    cut = orders.made(CreateObjectCommand(data=snapshot(1, source)))
    kept = orders.do(CopyCommand(source=cut, destination=snapshot(1, source, NFS))).new_data
    orders.write(source, noise("other"))
    for more in ({"path": kept.path}, {}):
        odd = volume(source.uuid, FILES, **more)
        orders.do(CopyCommand(source=odd, destination=volume(name("copy"), NFS, path=kept.path)))
    back = volume(name("back"), FILES)
    orders.do(CopyCommand(source=kept, destination=back))
    assert orders.read(back) == noise(source.uuid)
