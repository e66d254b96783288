"""Volumes: create, read and write through a host's eyes, list, resize, clone, delete."""

from __future__ import annotations

from ...core.dataplane import open_source
from ...core.spi import (
    ClonesVolume,
    Conflict,
    HasQos,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    Qos,
    Resizes,
    VolumeSpec,
)
from .. import pattern
from ..lab import MIB, VOLUME_SIZE, Lab, expected, judge, must, refused, zeros
from ..model import Level, Tier
from ..registry import check


@check("vol.create_read_write_delete", rule="vol.size")
def check_create_read_write_delete(lab: Lab) -> None:
    """What a host writes and flushes, it reads back after attaching again; then the volume goes."""
    volume = lab.volume()
    lab.write(volume, 1)
    lab.verify(volume.id, expected(volume.size, 1))
    lab.pool.volumes.delete(volume.id)
    with refused(NotFound):
        lab.pool.volumes.get(volume.id)


@check("vol.two_do_not_mix", rule="vol.size")
def check_two_do_not_mix(lab: Lab) -> None:
    """Two volumes written one after the other keep their own bytes."""
    first, second = lab.volume(), lab.volume()
    lab.write(first, 1)
    lab.write(second, 2)
    lab.verify(first.id, expected(first.size, 1))
    lab.verify(second.id, expected(second.size, 2))
    must(first.identity != second.identity or not first.identity, "two volumes have one identity")


@check("vol.overwrite", rule="vol.size")
def check_overwrite(lab: Lab) -> None:
    """A block that is written twice holds the second generation."""
    volume = lab.volume()
    lab.write(volume, 1)
    lab.write(volume, 2)
    lab.verify(volume.id, expected(volume.size, 2))


@check("vol.size_seen", rule="vol.size")
def check_size_seen(lab: Lab) -> None:
    """The volume has the asked size (rounded up as declared), and a host sees just that."""
    for size in (VOLUME_SIZE, VOLUME_SIZE + 512):
        granule = lab.pool.traits.size_granularity
        want = -(-size // granule) * granule
        volume = lab.volume(size)
        must(volume.size == want, f"asked for {size}, declared granularity {granule}, got {volume.size}")
        must(lab.size_seen(volume.id) == want, f"a host sees {lab.size_seen(volume.id)} instead of {want}")


@check("vol.new_reads_zero", rule="vol.zero")
def check_new_reads_zero(lab: Lab) -> None:
    """A new volume reads zeros, also where blocks of a deleted one are used again."""
    old = lab.volume()
    lab.write(old, 1)
    lab.pool.volumes.delete(old.id)
    new = lab.volume()
    lab.verify(new.id, expected(new.size, None))


@check("vol.create_idempotent", rule="vol.same-spec")
def check_create_idempotent(lab: Lab) -> None:
    """Creating twice gives one volume; the same id with another size is a conflict."""
    spec = VolumeSpec(id=lab.new_id(), size=VOLUME_SIZE, name="twice")
    first = lab.pool.volumes.create(spec)
    lab.write(first, 1)
    second = lab.pool.volumes.create(spec)
    must(first.identity == second.identity and first.size == second.size, "the second create made another")
    lab.verify(first.id, expected(first.size, 1))
    with refused(Conflict):
        lab.pool.volumes.create(VolumeSpec(id=spec.id, size=2 * VOLUME_SIZE, name="twice"))
    ids = [v.id for v in lab.pool.volumes.list()]
    must(ids.count(spec.id) == 1, f"the volume is listed {ids.count(spec.id)} times")


@check("vol.bad_sizes_refused", rule="vol.bounds")
def check_bad_sizes_refused(lab: Lab) -> None:
    """The driver itself refuses sizes outside of its traits, and creates nothing."""
    driver, traits = lab.pool.driver, lab.pool.traits
    for size, classes in (
        (0, (InvalidArgument,)),
        (-512, (InvalidArgument,)),
        (traits.max_size + traits.size_granularity, (InvalidArgument, LimitExceeded)),
    ):
        volume = lab.new_id()
        with refused(*classes):
            driver.create_volume(VolumeSpec(id=volume, size=size), lab.call())
        with refused(NotFound):
            driver.get_volume(volume, lab.call())


@check("vol.delete_missing_ok", rule="any.missing-ok")
def check_delete_missing_ok(lab: Lab) -> None:
    """Deleting a volume that is not there succeeds, also the second time."""
    volume = lab.volume()
    for _ in range(3):
        lab.pool.volumes.delete(volume.id)
    must(volume.id not in {v.id for v in lab.pool.volumes.list()}, "a deleted volume is still listed")


@check("vol.list_complete", rule="vol.list-complete", tier=Tier.STANDARD)
def check_list_complete(lab: Lab) -> None:
    """Small pages miss no volume, repeat none, and agree with get."""
    made = {lab.volume(MIB).id for _ in range(7)}
    seen, after = [], None
    for _ in range(1000):
        page = lab.pool.driver.list_volumes(lab.call(), after=after, limit=2)
        must(len(page.items) <= 2, f"a page of limit 2 has {len(page.items)} volumes")
        seen += [v.id for v in page.items]
        after = page.after
        if after is None:
            break
    must(made <= set(seen), f"not listed: {sorted(made - set(seen))}")
    must(len(seen) == len(set(seen)), "a volume is listed twice")
    for volume in sorted(made):
        must(lab.pool.volumes.get(volume).size == MIB, f"get({volume}) has another size than was created")


@check("vol.name_round_trip", rule="vol.same-spec", level=Level.SHOULD)
def check_name_round_trip(lab: Lab) -> None:
    """The human name comes back as it was given."""
    spec = VolumeSpec(id=lab.new_id(), size=MIB, name="Größe & <name> 7")
    lab.pool.volumes.create(spec)
    must(
        lab.pool.volumes.get(spec.id).name == spec.name,
        f"the name became {lab.pool.volumes.get(spec.id).name!r}",
    )


@check("vol.resize_grow", rule="resize.grow", needs=(Resizes,))
def check_resize_grow(lab: Lab) -> None:
    """Growing keeps the old data, adds zeros, and a host sees the new size; again is no change."""
    volume = lab.volume()
    lab.write(volume, 1)
    for _ in range(2):
        grown = lab.pool.volumes.resize(volume.id, 2 * VOLUME_SIZE)
        must(grown.size == 2 * VOLUME_SIZE, f"resize returned the size {grown.size}")
    must(lab.size_seen(volume.id) == grown.size, f"a host sees {lab.size_seen(volume.id)} bytes")
    tail = zeros(VOLUME_SIZE, VOLUME_SIZE)
    lab.verify(volume.id, expected(volume.size, 1) | tail)
    lab.write(grown, 2)
    lab.verify(volume.id, {grown.size - 4096: 2})


@check(
    "vol.resize_while_granted",
    rule="resize.grow",
    kinds=("managed",),
    needs=(Resizes,),
    tier=Tier.STANDARD,
    field_bug="tgt keeps a LUN's size from when its file was opened: the array has grown, its LUN has not",
)
def check_resize_while_granted(lab: Lab) -> None:
    """A host that had its grant before a resize, and attaches after it, sees the new size and its data.

    If it fails: what exports the volume was not told.
    """
    volume, host = lab.volume(), lab.host()
    lab.write(volume, 1)
    lab.pool.volumes.grant(volume.id, host)
    grown = lab.pool.volumes.resize(volume.id, 2 * VOLUME_SIZE)
    with open_source(lab.pool.volumes.grant(volume.id, host), timeout=10) as source:
        must(source.size == grown.size, f"the volume has {grown.size} bytes, its host sees {source.size}")
        judge(source, volume.id, expected(volume.size, 1) | zeros(VOLUME_SIZE, VOLUME_SIZE))


@check("vol.resize_shrink_refused", rule="resize.shrink", needs=(Resizes,))
def check_resize_shrink_refused(lab: Lab) -> None:
    """Shrinking is refused and changes nothing."""
    volume = lab.volume()
    lab.write(volume, 1)
    with refused(InvalidArgument):
        lab.pool.volumes.resize(volume.id, VOLUME_SIZE // 2)
    must(lab.pool.volumes.get(volume.id).size == volume.size, "the volume shrank all the same")
    lab.verify(volume.id, expected(volume.size, 1))


@check("vol.clone_equals_source", rule="clone.equal", needs=(ClonesVolume,))
def check_clone_equals_source(lab: Lab) -> None:
    """A clone equals its source; a larger one reads zeros behind; asking again gives the same."""
    source = lab.volume()
    lab.write(source, 1)
    spec = VolumeSpec(id=lab.new_id(), size=2 * VOLUME_SIZE)
    for _ in range(2):
        clone = lab.pool.volumes.clone(source.id, spec)
        tail = zeros(VOLUME_SIZE, VOLUME_SIZE)
        lab.verify(clone.id, expected(source.size, 1) | tail, owner=source.id)


@check("vol.clone_independent", rule="clone.independent", needs=(ClonesVolume,), tier=Tier.STANDARD)
def check_clone_independent(lab: Lab) -> None:
    """Writes to a clone do not show in its source, nor the reverse, whichever is written first."""
    source = lab.volume()
    lab.write(source, 1)
    first, second = (
        lab.pool.volumes.clone(source.id, VolumeSpec(id=lab.new_id(), size=VOLUME_SIZE)) for _ in range(2)
    )
    with lab.mover.writing_volume(lab.pool, first.id) as sink:
        sink.write(0, pattern.block(first.id, 0, 3))
        sink.flush()
    lab.verify(source.id, expected(source.size, 1))
    lab.write(source, 2)
    lab.verify(second.id, expected(source.size, 1), owner=source.id)


@check("vol.clone_outlives_source", rule="clone.independent", needs=(ClonesVolume,), tier=Tier.STANDARD)
def check_clone_outlives_source(lab: Lab) -> None:
    """A clone that does not depend on its source keeps every block when the source is deleted."""
    source = lab.volume()
    lab.write(source, 1)
    clone = lab.pool.volumes.clone(source.id, VolumeSpec(id=lab.new_id(), size=VOLUME_SIZE))
    if not lab.pool.traits.clone_depends_on_source:
        lab.pool.volumes.delete(source.id)
    lab.verify(clone.id, expected(source.size, 1), owner=source.id)


@check("qos.read_back", rule="qos.read-back", needs=(HasQos,))
def check_qos_read_back(lab: Lab) -> None:
    """Limits that are set, changed and removed are what the array then shows."""
    volume = lab.volume()
    for qos in (Qos(max_iops=1000), Qos(min_iops=100, max_iops=5000), None):
        lab.pool.volumes.set_qos(volume.id, qos)
        now = lab.pool.volumes.get(volume.id).qos
        must((now or Qos()) == (qos or Qos()), f"set {qos}, the array shows {now}")


@check("vol.misdirected", rule="vol.size", tier=Tier.STANDARD)
def check_misdirected(lab: Lab) -> None:
    """Each 64 KiB of a volume that is written as a whole holds the block that belongs there."""
    volume = lab.volume(4 * MIB)
    places = range(0, volume.size, 64 * 1024)
    with lab.mover.writing_volume(lab.pool, volume.id) as sink:
        for at in reversed(places):  # from the end: what lands one too far stays to be seen
            sink.write(at, pattern.block(volume.id, at, 1))
        sink.flush()
    lab.verify(volume.id, dict.fromkeys(places, 1))
