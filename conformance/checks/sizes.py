"""Sizes and single bytes: bounds, odd ends, sectors, discards, growing."""

from __future__ import annotations

from ...core.dataplane import copy
from ...core.spi import (
    HasDependents,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    OutOfCapacity,
    Resizes,
    Snapshots,
    VolumeSpec,
)
from .. import pattern
from ..lab import MIB, VOLUME_SIZE, Lab, expected, must, not_applicable, refused
from ..model import Level, Tier
from ..registry import check
from ._bytes import volume_bytes
from ._operations import SIZE, written

_KIB = 1024


@check("vol.size_min_max_boundaries", rule="vol.bounds", tier=Tier.STANDARD)
def check_size_min_max_boundaries(lab: Lab) -> None:
    """The smallest and the largest size of the traits can be had, and a host sees them.

    The largest may end in `OutOfCapacity`, for a pool may be smaller than what its driver can address;
    `InvalidArgument` or `LimitExceeded` mean that the traits promise too much.
    """
    traits = lab.pool.traits
    least = -(-traits.min_size // traits.size_granularity) * traits.size_granularity
    for size in (least, traits.max_size - traits.max_size % traits.size_granularity):
        try:
            volume = lab.volume(size)
        except OutOfCapacity:
            must(size != least, f"a volume of {least} bytes does not fit into the pool")
            continue
        must(volume.size == size, f"asked for {size}, got {volume.size}")
        must(lab.size_seen(volume.id) == size, f"a host sees {lab.size_seen(volume.id)} of {size}")
        lab.pool.volumes.delete(volume.id)


@check("vol.size_below_min_refused", rule="vol.bounds", tier=Tier.STANDARD)
def check_size_below_min_refused(lab: Lab) -> None:
    """The driver itself refuses one sector less than its least size, and creates nothing."""
    size = lab.pool.traits.min_size - 512
    if size <= 0:
        not_applicable("the least size of the traits is one sector")
    wanted = VolumeSpec(id=lab.new_id(), size=size)
    with refused(InvalidArgument, LimitExceeded):
        lab.pool.driver.create_volume(wanted, lab.call())
    with refused(NotFound):
        lab.pool.volumes.get(wanted.id)


@check(
    "vol.size_odd_bytes",
    rule="vol.data",
    tier=Tier.STANDARD,
    field_bug="ovirt-imageio: images whose end is not aligned to the storage's block",
)
def check_size_odd_bytes(lab: Lab) -> None:
    """The last bytes of a volume are kept although its size fits no chunk of the storage.

    A failure shows a backend that works in chunks and drops or zeroes the part of one at the end.
    """
    for size in (MIB + 512, 3 * 64 * _KIB + 5 * 512, 4096 + 512):
        volume = lab.volume(size)
        tail = volume.size - pattern.BLOCK
        data = pattern.block(volume.id, 0, 1)
        with lab.mover.writing_volume(lab.pool, volume.id) as sink:
            sink.write(tail, data)
            sink.flush()
        seen = volume_bytes(lab, volume.id)
        must(len(seen) == volume.size, f"a host sees {len(seen)} of {volume.size} bytes")
        must(seen[tail:] == data, f"the last {pattern.BLOCK} bytes of a volume of {size} are not kept")


@check("vol.sector_size_as_declared", rule="vol.sector", tier=Tier.STANDARD)
def check_sector_size_as_declared(lab: Lab) -> None:
    """A write of one declared sector changes that sector, and none beside it.

    A failure means that the storage rounds writes to a larger block, as 4096-byte disks behind a
    512-byte face do when their read-modify-write is wrong.
    """
    sector, volume = lab.pool.traits.sector_size, written(lab)
    must(sector in (512, 4096), f"traits.sector_size is {sector}")
    granule = lab.pool.traits.size_granularity
    must(granule % sector == 0, f"sizes are multiples of {granule}, which is no multiple of {sector}")
    wanted = bytearray(volume_bytes(lab, volume.id))
    with lab.mover.writing_volume(lab.pool, volume.id) as sink:
        for index, at in enumerate((sector, 64 * _KIB, MIB - sector, volume.size - sector), start=1):
            wanted[at : at + sector] = bytes([index]) * sector
            sink.write(at, bytes([index]) * sector)
        sink.flush()
    must(volume_bytes(lab, volume.id) == wanted, f"a write of {sector} bytes changed others, or was lost")


@check("vol.discard_reads_zero", rule="vol.discard", tier=Tier.STANDARD)
def check_discard_reads_zero(lab: Lab) -> None:
    """A range that a host zeroes or discards reads zeros after it attaches again; its neighbours stay.

    Ranges that begin or end inside of the storage's chunks are where this fails.
    """
    volume = written(lab)
    wanted = bytearray(pattern.blocks(volume.id, 0, MIB, 1))
    with lab.mover.writing_volume(lab.pool, volume.id) as sink:
        sink.write(0, bytes(wanted))
        sink.flush()
        for start, end in ((8 * _KIB, 12 * _KIB), (60 * _KIB, 200 * _KIB), (512 * _KIB, 768 * _KIB)):
            sink.zero(start, end - start)
            wanted[start:end] = bytes(end - start)
        sink.flush()
    must(volume_bytes(lab, volume.id)[:MIB] == wanted, "a zeroed range holds data, or one beside it is lost")


@check("vol.discard_returns_space", rule="vol.discard", level=Level.SHOULD, tier=Tier.STANDARD)
def check_discard_returns_space(lab: Lab) -> None:
    """A discarded range no longer counts as allocated, so that thin volumes stay thin."""
    volume = lab.volume(8 * MIB)
    with lab.mover.writing_volume(lab.pool, volume.id) as sink:
        sink.write(0, pattern.blocks(volume.id, 0, 4 * MIB, 1))
        sink.flush()
    full = lab.pool.volumes.get(volume.id).allocated
    with lab.mover.writing_volume(lab.pool, volume.id) as sink:
        sink.zero(0, 4 * MIB)
        sink.flush()
    left = lab.pool.volumes.get(volume.id).allocated
    if full is None or left is None:
        not_applicable("the driver does not tell what a volume occupies")
    must(left <= full - 2 * MIB, f"4 MiB were discarded, and allocated went from {full} to {left}")


@check("vol.resize_same_size_noop", rule="resize.same", needs=(Resizes,), tier=Tier.STANDARD)
def check_resize_same_size_noop(lab: Lab) -> None:
    """Resizing to the present size succeeds and changes nothing."""
    volume = written(lab)
    same = lab.pool.volumes.resize(volume.id, volume.size)
    must((same.id, same.size, same.identity) == (volume.id, volume.size, volume.identity), f"got {same}")
    lab.verify(volume.id, expected(volume.size, 1))


@check(
    "vol.resize_odd_tail",
    rule="resize.grow",
    needs=(Resizes,),
    tier=Tier.STANDARD,
    field_bug="virtnbdbackup#109: what lay at the old end after a resize",
)
def check_resize_odd_tail(lab: Lab) -> None:
    """Growing by less than the storage's chunk keeps the old end, and what is added reads zeros."""
    volume = lab.volume(MIB + 4096)
    block = pattern.block(volume.id, MIB, 1)
    with lab.mover.writing_volume(lab.pool, volume.id) as sink:
        sink.write(MIB, block)
        sink.flush()
    for size in (MIB + 4096 + 512, MIB + 24 * _KIB, 2 * MIB):
        grown = lab.pool.volumes.resize(volume.id, size)
        seen = volume_bytes(lab, volume.id)
        must(len(seen) == grown.size >= size, f"asked for {size}, a host sees {len(seen)}")
        must(seen[MIB : MIB + 4096] == block, f"growing to {size} lost the old end")
        must(not any(seen[MIB + 4096 :]), f"growing to {size} added bytes that are not zero")


@check("vol.resize_keeps_snapshots", rule="snap.immutable", needs=(Resizes, Snapshots), tier=Tier.STANDARD)
def check_resize_keeps_snapshots(lab: Lab) -> None:
    """A snapshot keeps its size and its bytes when its volume grows."""
    volume = written(lab)
    snapshot = lab.snapshot(volume.id)
    grown = lab.pool.volumes.resize(volume.id, 2 * SIZE)
    lab.write(grown, 2)
    found = lab.pool.snapshots.get(snapshot.id)
    must(found.size == SIZE, f"the snapshot had {SIZE} bytes and has {found.size}")
    lab.verify_snapshot(snapshot.id, volume.id, expected(SIZE, 1))


@check(
    "vol.delete_with_snapshots",
    rule="vol.delete-snapshots",
    needs=(Snapshots,),
    tier=Tier.STANDARD,
    field_bug="cloudstack#9446: deleting one end of a chain broke the other",
)
def check_delete_with_snapshots(lab: Lab) -> None:
    """A volume with snapshots is deleted together with them, or not at all, as the traits say.

    A failure in the second half means that a refused delete has damaged the volume or its snapshot.
    """
    volume = written(lab)
    snapshot = lab.snapshot(volume.id)
    if lab.pool.traits.delete_with_snapshots:
        lab.pool.volumes.delete(volume.id)
        with refused(NotFound):
            lab.pool.snapshots.get(snapshot.id)
        return
    with refused(HasDependents):
        lab.pool.volumes.delete(volume.id)
    lab.verify(volume.id, expected(SIZE, 1))
    lab.verify_snapshot(snapshot.id, volume.id, expected(SIZE, 1))
    lab.pool.snapshots.delete(snapshot.id)
    lab.pool.volumes.delete(volume.id)
    with refused(NotFound):
        lab.pool.volumes.get(volume.id)


@check(
    "vol.list_survives_deletion",
    rule="vol.list-complete",
    tier=Tier.STANDARD,
    field_bug="CSI ListVolumes: an entry is missed when one before it goes between two pages",
)
def check_list_survives_deletion(lab: Lab) -> None:
    """A listing goes on when a volume that it has shown is deleted, and misses none of the others.

    A cursor that counts entries moves by one for each deletion, and so skips a volume that exists: an
    orchestrator that reconciles by the list takes it for lost.
    """
    made = [lab.volume(MIB).id for _ in range(5)]
    seen: list[str] = []
    doomed, after = None, None
    for _ in range(1000):
        page = lab.pool.driver.list_volumes(lab.call(), after=after, limit=2)
        seen += [v.id for v in page.items]
        if doomed is None and (shown := [v for v in made if v in seen]):
            doomed = shown[-1]
            lab.pool.volumes.delete(doomed)
        after = page.after
        if after is None:
            break
    missed = set(made) - set(seen)
    must(not missed, f"deleting {doomed} between two pages made the list skip {sorted(missed)}")


@check(
    "vol.identity_never_reused",
    rule="vol.identity",
    kinds=("managed",),
    tier=Tier.STANDARD,
    field_bug="CVE-2023-2088: a stale device opened the LUN's next owner",
)
def check_identity_never_reused(lab: Lab) -> None:
    """Each volume has an identity of its own, and that of a deleted one is not given again."""
    seen: dict[str, str] = {}
    for _ in range(4):
        volume = lab.volume(MIB)
        must(volume.identity, "the volume has no identity: no host can tell it from another")
        former = seen.setdefault(volume.identity, volume.id)
        must(former == volume.id, f"{volume.id} has the identity {volume.identity} of {former}")
        lab.pool.volumes.delete(volume.id)


@check("vol.copy_between_volumes", rule="vol.data", tier=Tier.STANDARD)
def check_copy_between_volumes(lab: Lab) -> None:
    """What the data plane copies from one volume to another is equal, holes and odd ends included.

    The copy skips what the location reports as zero or as a hole: a failure here with `vol.overwrite`
    passing means that the storage reports data as a hole.
    """
    source, target = lab.volume(VOLUME_SIZE // 4 + 512), lab.volume(VOLUME_SIZE // 4 + 512)
    with lab.mover.writing_volume(lab.pool, source.id) as sink:
        for at in (0, 60 * _KIB, MIB + 4096, source.size - pattern.BLOCK):
            sink.write(at, pattern.block(source.id, at, 1))
        sink.flush()
    lab.write(target, 2)
    with (
        lab.mover.reading_volume(lab.pool, source.id) as reader,
        lab.mover.writing_volume(lab.pool, target.id) as writer,
    ):
        copy(reader, writer)
    must(volume_bytes(lab, target.id) == volume_bytes(lab, source.id), "the copy differs from its source")
