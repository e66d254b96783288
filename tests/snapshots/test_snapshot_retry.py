"""Any single step may fail: repeating the command with the same ids ends as if it had not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bollard.core.spi import Call, Conflict, DataLoss, Qos, StorageError, VolumeSpec
from bollard.transfer_objects.enums import SnapshotLocation
from bollard.transfer_objects.ids import SnapshotId, VolumeId

from .snapshot_rig import MIB, Rig, Striker, call, flip

MONDAY, TUESDAY = SnapshotId("monday"), SnapshotId("tuesday")
REAL = pytest.mark.real(root=True)
FIRST, SECOND = b"first" * 20000, b"later" * 20000
ARRAY_CALLS = (
    "create_snapshot",
    "get_snapshot",
    "changed",
    "create_volume_from_snapshot",
    "grant",
    "revoke",
    "delete_volume",
    "delete_snapshot",
)
FILES_CALLS = ("create_snapshot", "get_snapshot", "locate_snapshot", "delete_snapshot")
STORE_CALLS = ("put", "get", "head", "list")


def _round(rig: Rig, striker: Striker, volume: VolumeId, location: SnapshotLocation) -> bool:
    """Take a snapshot, strike, repeat, and look; tell whether the strike was seen by the caller."""
    striker_at, after = striker.at, striker.after
    striker.arm(0)
    rig.make(volume, FIRST)
    striker.arm(striker_at, after=after)
    said = ""
    try:
        rig.service.take(volume, MONDAY, call(), location=location)
    except StorageError as error:
        said = error.message
    striker.arm(0)
    assert not said or "struck" in said
    was_cut = MONDAY in rig.on_pool(volume) or MONDAY in rig.in_archive(volume)
    rig.write(volume, SECOND)
    rig.service.take(volume, MONDAY, call(), location=location)

    assert rig.in_archive(volume) == [MONDAY]
    assert rig.archived(volume, MONDAY).startswith(FIRST if was_cut else SECOND)
    assert rig.on_pool(volume) == []
    return bool(said)


def _count(rig: Rig, striker: Striker, location: SnapshotLocation) -> int:
    """Return how many watched calls an undisturbed snapshot takes."""
    rig.make(VolumeId("calm"), FIRST)
    striker.arm(0)
    rig.service.take(VolumeId("calm"), MONDAY, call(), location=location)
    return striker.seen


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_array_fails_at_any_call(lun, after):
    """Whichever call fails, before or after it ran: one manifest, the first cut, and nothing temporary."""
    striker = Striker()
    striker.watch(lun.pool.driver, *ARRAY_CALLS)
    total = _count(lun, striker, SnapshotLocation.ARCHIVE)
    failures = 0
    for number in range(1, total + 1):
        striker.arm(number, after=after)
        failures += _round(lun, striker, VolumeId(f"vol-{number}"), SnapshotLocation.ARCHIVE)
    lun.mover.sweep_pool(lun.pool)

    assert total >= 7
    assert failures >= total - 2  # a failing undo is the sweep's business, not the caller's
    assert sorted(lun.volumes()) == sorted(["calm", *(f"vol-{n}" for n in range(1, total + 1))])
    assert [g for v in lun.volumes() for g in lun.pool.volumes.grants(v)] == []
    assert lun.intents() == []


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_files_or_store_fail_at_any_call(files, after):
    """The same for a pool of files and each request to the store, the last one included."""
    striker = Striker()
    striker.watch(files.pool.driver, *FILES_CALLS)
    striker.watch(files.store.driver, *STORE_CALLS)
    total = _count(files, striker, SnapshotLocation.STANDARD)
    failures = 0
    for number in range(1, total + 1):
        striker.arm(number, after=after)
        failures += _round(files, striker, VolumeId(f"vol-{number}"), SnapshotLocation.STANDARD)

    assert total >= 15
    assert failures >= total // 2  # some requests are only looks, whose failure is caught by the archive
    assert files.intents() == []


def test_interrupt_undoes_what_was_made(lun, monkeypatch):
    """Ctrl-C in the middle of the copy leaves no clone, no grant and no journal entry."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    lun.make(VolumeId("web-1"), FIRST)
    monkeypatch.setattr(lun.archive, "create", interrupt)
    with pytest.raises(KeyboardInterrupt):
        lun.service.take(VolumeId("web-1"), MONDAY, call(), location=SnapshotLocation.ARCHIVE)

    assert lun.volumes() == ["web-1"]
    assert lun.intents() == []


def test_each_operation_has_its_own_request_id(files):
    """A backend that deduplicates by request id does not take one operation for another."""
    seen: list[Call] = []
    for name in ("create_snapshot", "delete_snapshot"):
        method = getattr(files.pool.driver, name)

        def spy(*args, method=method):
            seen.append(args[-1])
            return method(*args)

        setattr(files.pool.driver, name, spy)
    files.make(VolumeId("web-1"), FIRST)
    asked = call()
    files.service.take(VolumeId("web-1"), MONDAY, asked)

    assert len({c.request_id for c in seen}) == len(seen) == 2
    assert {c.deadline for c in seen} == {asked.deadline}


# -- restore ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lun", "files", pytest.param("iscsi", marks=REAL)])
def test_restore_makes_a_new_volume(request, kind):
    """A new volume of any pool equals the snapshot, and no access to it is left."""
    rig = request.getfixturevalue(kind)
    rig.make(VolumeId("web-1"), FIRST)
    rig.service.take_both(VolumeId("web-1"), MONDAY, call())
    made = rig.service.restore(VolumeId("web-1"), MONDAY, VolumeId("new-1"), call(), name="again")

    assert (made.id, made.size, made.name) == ("new-1", MIB, "again")
    assert rig.read(VolumeId("new-1")) == rig.read(VolumeId("web-1"))
    assert rig.intents() == []
    if rig.pool.managed:
        assert list(rig.pool.volumes.grants(VolumeId("new-1"))) == []


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("lun", "silver"),
        ("lun", "qcow2s"),
        ("qcow2s", "lun"),
        pytest.param("iscsi", "lun", marks=REAL),  # another array, of another make
        pytest.param("iscsi", "qcow2s", marks=REAL),
        pytest.param("lun", "iscsi", marks=REAL),
        pytest.param("files", "iscsi", marks=REAL),
    ],
)
def test_an_archive_is_restored_into_any_pool(request, source, target):
    """A full and an increment of one pool become volumes of another, sparse as they were, and equal."""
    old, new = request.getfixturevalue(source), request.getfixturevalue(target)
    old.pool.volumes.create(VolumeSpec(id=VolumeId("web-1"), size=64 * MIB))
    old.write(VolumeId("web-1"), FIRST)
    old.service.take_both(VolumeId("web-1"), MONDAY, call())
    old.write(VolumeId("web-1"), SECOND, 32 * MIB)
    old.service.take_both(VolumeId("web-1"), TUESDAY, call(), parent=MONDAY)
    content = old.read(VolumeId("web-1"))
    elsewhere = replace(old.service, pool=new.pool)
    for snapshot in (MONDAY, TUESDAY):
        made = elsewhere.restore(VolumeId("web-1"), snapshot, VolumeId(f"of-{snapshot}"), call())
        assert made.size == 64 * MIB
    assert new.read(VolumeId("of-monday")) == content[: len(FIRST)] + bytes(64 * MIB - len(FIRST))
    assert new.read(VolumeId("of-tuesday")) == content
    assert (new.pool.volumes.get(VolumeId("of-tuesday")).allocated or 0) < 8 * MIB
    assert new.intents() == []
    if new.pool.managed:
        assert list(new.pool.volumes.grants(VolumeId("of-tuesday"))) == []


@pytest.mark.parametrize("kind", ["lun", "files", pytest.param("iscsi", marks=REAL)])
def test_restore_over_an_existing_volume_writes_its_zeros(request, kind):
    """What the volume held before is gone, also where the snapshot has a hole."""
    rig = request.getfixturevalue(kind)
    rig.make(VolumeId("web-1"), FIRST)
    rig.service.take_both(VolumeId("web-1"), MONDAY, call())
    rig.make(VolumeId("old-1"), b"z" * MIB)
    rig.service.restore(VolumeId("web-1"), MONDAY, VolumeId("old-1"), call())

    assert rig.read(VolumeId("old-1")) == FIRST + bytes(MIB - len(FIRST))


def test_limits_of_an_existing_volume_are_lifted_for_the_restore(lun, monkeypatch):
    """A restore is not slowed down by what holds for the guest, and the guest has it again afterwards."""
    limits, seen = Qos(max_iops=500), []
    lun.make(VolumeId("web-1"), FIRST)
    lun.service.take_both(VolumeId("web-1"), MONDAY, call())
    lun.pool.volumes.set_qos(VolumeId("web-1"), limits)
    restore = lun.archive.restore

    def look_and_restore(*args, **options):
        seen.append(lun.pool.volumes.get(VolumeId("web-1")).qos)
        return restore(*args, **options)

    monkeypatch.setattr(lun.archive, "restore", look_and_restore)
    lun.service.restore(VolumeId("web-1"), MONDAY, VolumeId("web-1"), call())

    assert seen == [None]
    assert lun.pool.volumes.get(VolumeId("web-1")).qos == limits


def test_restore_over_a_volume_of_another_size_is_refused(files):
    """Another size is a conflict, and the volume stays as it was."""
    files.make(VolumeId("web-1"), FIRST)
    files.service.take_both(VolumeId("web-1"), MONDAY, call())
    files.make(VolumeId("old-1"), b"z" * 2 * MIB)

    with pytest.raises(Conflict):
        files.service.restore(VolumeId("web-1"), MONDAY, VolumeId("old-1"), call())
    assert files.read(VolumeId("old-1")) == b"z" * 2 * MIB


@pytest.mark.parametrize("kind", ["lun", "files", pytest.param("iscsi", marks=REAL)])
@pytest.mark.parametrize("existed", [False, True])
def test_failed_restore_removes_what_it_made(request, kind, existed):
    """Half a new volume goes again; a volume that was there before stays there."""
    rig = request.getfixturevalue(kind)
    rig.make(VolumeId("web-1"), FIRST)
    manifest = rig.service.take_both(VolumeId("web-1"), MONDAY, call()).archived
    [(window, part)] = manifest.parts()
    flip(rig.store.options.path / manifest.key_of(window, part))
    if existed:
        rig.pool.volumes.create(VolumeSpec(id=VolumeId("new-1"), size=MIB))

    with pytest.raises(DataLoss):
        rig.service.restore(VolumeId("web-1"), MONDAY, VolumeId("new-1"), call())
    assert ("new-1" in rig.volumes()) is existed
    assert rig.intents() == []


def test_restore_after_a_killed_one_survives_the_sweep(files):
    """What a dead run of this machine had begun to fill is replaced, and no sweep removes the new one."""
    files.make(VolumeId("web-1"), FIRST)
    files.service.take_both(VolumeId("web-1"), MONDAY, call())
    fields = {"pool": files.pool.info.identity, "volume": "new-1", "host": files.mover.host.id}
    entry = files.mover.journal.begin("fill", **fields)
    files.pool.volumes.create(VolumeSpec(id=VolumeId("new-1"), size=MIB))
    entry.release()  # as the kernel does when the process dies
    files.service.restore(VolumeId("web-1"), MONDAY, VolumeId("new-1"), call())

    assert files.mover.sweep_pool(files.pool) == []
    assert files.read(VolumeId("new-1")) == files.read(VolumeId("web-1"))


def test_missing_snapshot_makes_no_volume(files):
    """A typo in the snapshot's name leaves no empty volume."""
    with pytest.raises(StorageError):
        files.service.restore(VolumeId("web-1"), TUESDAY, VolumeId("new-1"), call())
    assert files.volumes() == []
