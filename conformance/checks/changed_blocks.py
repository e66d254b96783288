"""Changed blocks: what a driver leaves out of a delta is lost in every increment made of it.

base ──> writes, zeroes, growth ──> target          sound:  base + delta == target, byte for byte
"""

from __future__ import annotations

from ...core.spi import (
    ChangedBlocks,
    Extent,
    InvalidArgument,
    NotFound,
    Resizes,
    Reverts,
    Snapshot,
    Snapshots,
    Volume,
)
from .. import pattern
from ..lab import MIB, Lab, must, refused
from ..model import Level, Tier
from ..registry import check
from ._bytes import first_difference, patched, snapshot_bytes
from ._operations import written

NEEDS = (Snapshots, ChangedBlocks)
_SIZE = 4 * MIB + 512
_WRITES = 24


def _scatter(lab: Lab, volume: Volume, generation: int, *, within: int | None = None) -> None:
    """Write blocks at random places of a volume, and zero one random range."""
    places = (within or volume.size) // pattern.BLOCK
    with lab.mover.writing_volume(lab.pool, volume.id) as sink:
        for _ in range(_WRITES):
            at = lab.notes.random.randrange(places) * pattern.BLOCK
            sink.write(at, pattern.block(volume.id, at, generation))
        start = lab.notes.random.randrange(places - 32) * pattern.BLOCK
        sink.zero(start, 32 * pattern.BLOCK)
        sink.flush()


def _delta(lab: Lab, base: Snapshot | None, target: Snapshot, *, start: int = 0) -> list[Extent]:
    """Return what the driver itself streams; the client would refuse what these checks look for."""
    driver = lab.pool.require(ChangedBlocks)
    return list(driver.changed(base.id if base else None, target.id, lab.call(), start=start))


def _must_be_sound(lab: Lab, base: Snapshot, target: Snapshot, when: str) -> None:
    """Fail unless the delta turns the base into the target."""
    old, new = snapshot_bytes(lab, base.id), snapshot_bytes(lab, target.id)
    at = first_difference(patched(old, _delta(lab, base, target), new), new)
    must(at is None, f"DATA LOSS {when}: base + delta differs from the target at byte {at}")


@check("inc.delta_applied_equals_target", rule="cbt.covers", needs=NEEDS, tier=Tier.STANDARD)
def check_delta_applied_equals_target(lab: Lab) -> None:
    """A base with the delta applied to it equals the target in every byte, over several random rounds.

    This is what an incremental restore does. A failure names the first byte that the increment lost.
    """
    volume = lab.volume(_SIZE)
    base = lab.snapshot(volume.id)
    for generation in (1, 2, 3):
        _scatter(lab, volume, generation)
        target = lab.snapshot(volume.id)
        _must_be_sound(lab, base, target, f"in round {generation}")
        base = target


@check("inc.delta_over_several_snapshots", rule="cbt.covers", needs=NEEDS, tier=Tier.STANDARD)
def check_delta_over_several_snapshots(lab: Lab) -> None:
    """A delta may span snapshots in between, and those may be deleted: it still covers every change.

    Drivers that add up the deltas of a chain lose what the deleted links held.
    """
    volume = lab.volume(_SIZE)
    taken = []
    for generation in (1, 2, 3, 4):
        _scatter(lab, volume, generation)
        taken.append(lab.snapshot(volume.id))
    _must_be_sound(lab, taken[0], taken[3], "over two snapshots")
    lab.pool.snapshots.delete(taken[1].id)
    lab.pool.snapshots.delete(taken[2].id)
    _must_be_sound(lab, taken[0], taken[3], "after those between were deleted")


@check("inc.over_report_ratio", rule="cbt.covers", needs=NEEDS, level=Level.MEASURE, tier=Tier.STANDARD)
def check_over_report_ratio(lab: Lab) -> None:
    """How many bytes a driver reports for each byte that changed; 1 is perfect.

    What is reported and has not changed is read, hashed and thrown away, so this is the price of an
    increment, not its size. Figures over 100 for small writes tell of a coarse bitmap.
    """
    volume = lab.volume(64 * MIB)
    lab.write(volume, 1)
    base = lab.snapshot(volume.id)
    series = []
    for blocks in (1, 16, 256):
        with lab.mover.writing_volume(lab.pool, volume.id) as sink:
            for index in lab.notes.random.sample(range(volume.size // pattern.BLOCK), blocks):
                sink.write(index * pattern.BLOCK, pattern.block(volume.id, index * pattern.BLOCK, blocks))
            sink.flush()
        target = lab.snapshot(volume.id)
        reported = sum(e.length for e in _delta(lab, base, target))
        series.append((float(blocks), reported / (blocks * pattern.BLOCK)))
        base = target
    lab.notes.measure("bytes reported per byte changed", series[-1][1], "", series=tuple(series))


@check(
    "inc.extents_sorted_disjoint_bounded",
    rule="cbt.sorted",
    needs=NEEDS,
    tier=Tier.STANDARD,
    field_bug="CSI Snapshot Metadata: blocks reported past the end of the volume",
)
def check_extents_sorted_disjoint_bounded(lab: Lab) -> None:
    """Extents come sorted, disjoint and non-empty, and end with the volume, whose size fits no chunk.

    A consumer streams them: what comes too late or lies past the end cannot be repaired, only refused.
    """
    volume = lab.volume(_SIZE)
    base = lab.snapshot(volume.id)
    _scatter(lab, volume, 1)
    tail = volume.size - pattern.BLOCK
    with lab.mover.writing_volume(lab.pool, volume.id) as sink:
        sink.write(tail, pattern.block(volume.id, 0, 2))
        sink.flush()
    target = lab.snapshot(volume.id)
    for before, name in ((base, "a base"), (None, "no base")):
        end = 0
        for extent in _delta(lab, before, target):
            must(extent.length > 0, f"with {name}: empty extent at {extent.offset:#x}")
            must(extent.offset >= end, f"with {name}: {extent.offset:#x} comes after {end:#x}")
            end = extent.end
        must(end == volume.size, f"with {name}: the last extent ends at {end}, the volume at {volume.size}")


@check(
    "inc.extents_resume_from_offset",
    rule="cbt.resume",
    needs=NEEDS,
    tier=Tier.STANDARD,
    field_bug="ovirt-imageio#71: large extent lists must be fetched in pieces",
)
def check_extents_resume_from_offset(lab: Lab) -> None:
    """A stream that starts at an offset reports every byte behind it that the whole stream reports.

    Consumers resume a broken stream where it broke; what is left out then is lost.
    """
    volume = lab.volume(_SIZE)
    base = lab.snapshot(volume.id)
    _scatter(lab, volume, 1)
    target = lab.snapshot(volume.id)
    full = _delta(lab, base, target)
    inside = full[len(full) // 2].offset + 512
    for start in (0, 1, full[0].end, inside, volume.size - 512, volume.size):
        wanted = _covered(full, start)
        missing = wanted - _covered(_delta(lab, base, target, start=start), start)
        must(not missing, f"resumed at {start}: sector {min(missing, default=0)} is not reported any more")


def _covered(extents: list[Extent], start: int) -> set[int]:
    """Return the sectors from `start` on that lie in an extent."""
    return {s for e in extents for s in range(e.offset // 512, -(-e.end // 512)) if s * 512 >= start}


@check("inc.discard_is_reported", rule="cbt.covers", needs=NEEDS, tier=Tier.STANDARD)
def check_discard_is_reported(lab: Lab) -> None:
    """A range that was zeroed or discarded after the base is reported: its old data must not come back.

    An increment without it restores files that the guest had deleted, and so do snapshots of databases.
    """
    volume = lab.volume(4 * MIB)
    with lab.mover.writing_volume(lab.pool, volume.id) as sink:
        sink.write(0, pattern.blocks(volume.id, 0, 2 * MIB, 1))
        sink.flush()
    base = lab.snapshot(volume.id)
    with lab.mover.writing_volume(lab.pool, volume.id) as sink:
        sink.zero(MIB, MIB // 2)
        sink.flush()
    target = lab.snapshot(volume.id)
    zeroed = set(range(MIB // 512, (MIB + MIB // 2) // 512))
    missing = zeroed - _covered(_delta(lab, base, target), 0)
    must(not missing, f"{len(missing) * 512} bytes were zeroed and are not reported: old data comes back")
    _must_be_sound(lab, base, target, "after a discard")


@check(
    "inc.after_grow",
    rule="cbt.covers",
    needs=(*NEEDS, Resizes),
    tier=Tier.STANDARD,
    field_bug="virtnbdbackup#109: an increment over a resize was cut at the old size",
)
def check_after_grow(lab: Lab) -> None:
    """When the volume has grown between base and target, writes behind the old end are reported as well."""
    volume = lab.volume(_SIZE)
    _scatter(lab, volume, 1)
    base = lab.snapshot(volume.id)
    grown = lab.pool.volumes.resize(volume.id, 2 * _SIZE)
    _scatter(lab, grown, 2)
    with lab.mover.writing_volume(lab.pool, volume.id) as sink:
        for at in (_SIZE, grown.size - pattern.BLOCK):
            sink.write(at, pattern.block(volume.id, at, 3))
        sink.flush()
    _must_be_sound(lab, base, lab.snapshot(volume.id), "over a resize")


@check("inc.after_revert", rule="cbt.covers", needs=(*NEEDS, Reverts), tier=Tier.STANDARD)
def check_after_revert(lab: Lab) -> None:
    """After a revert the deltas to earlier snapshots, also to those of the line that was left, are sound.

    A driver that can no longer tell raises `NotFound`, and core makes a full. What it must not do is
    to report only what was written since the revert.
    """
    volume = lab.volume(_SIZE)
    _scatter(lab, volume, 1)
    base = lab.snapshot(volume.id)
    _scatter(lab, volume, 2)
    left = lab.snapshot(volume.id)
    lab.pool.volumes.revert(volume.id, base.id)
    _scatter(lab, volume, 3)
    target = lab.snapshot(volume.id)
    known = {s.id for s in lab.pool.snapshots.list(volume.id)}
    for former in (base, left):
        if former.id not in known:
            continue
        try:
            _must_be_sound(lab, former, target, "after a revert")
        except NotFound:
            continue


@check("inc.base_deleted_is_not_found", rule="cbt.lost", needs=NEEDS, tier=Tier.STANDARD)
def check_base_deleted_is_not_found(lab: Lab) -> None:
    """With a base that is deleted the driver raises `NotFound`; it never streams nothing, or half.

    An empty stream says "nothing has changed": the increment is made, is empty, and nobody notices
    before the restore.
    """
    volume = lab.volume(_SIZE)
    _scatter(lab, volume, 1)
    base = lab.snapshot(volume.id)
    _scatter(lab, volume, 2)
    target = lab.snapshot(volume.id)
    lab.pool.snapshots.delete(base.id)
    with refused(NotFound):
        _delta(lab, base, target)


@check("inc.foreign_base_refused", rule="cbt.foreign", needs=NEEDS, tier=Tier.STANDARD)
def check_foreign_base_refused(lab: Lab) -> None:
    """A base of another volume is refused: no delta between two volumes means anything."""
    volume, other = written(lab), written(lab)
    base, target = lab.snapshot(other.id), lab.snapshot(volume.id)
    with refused(InvalidArgument):
        _delta(lab, base, target)


@check("inc.base_none_is_allocated", rule="cbt.base-none", needs=NEEDS, tier=Tier.STANDARD)
def check_base_none_is_allocated(lab: Lab) -> None:
    """Without a base everything that holds data is reported: what is left out reads zero.

    A full backup reads nothing else. A failure is the offset of data that it would lose.
    """
    volume = lab.volume(_SIZE)
    _scatter(lab, volume, 1)
    target = lab.snapshot(volume.id)
    new = snapshot_bytes(lab, target.id)
    at = first_difference(patched(b"", _delta(lab, None, target), new), new)
    must(at is None, f"DATA LOSS: there is data at {at}, and base None does not report it")


@check("inc.base_none_is_sparse", rule="cbt.base-none", needs=NEEDS, level=Level.SHOULD, tier=Tier.STANDARD)
def check_base_none_is_sparse(lab: Lab) -> None:
    """Without a base a volume that is nearly empty is not reported as full of data."""
    volume = lab.volume(64 * MIB)
    lab.write(volume, 1, length=pattern.BLOCK)
    target = lab.snapshot(volume.id)
    data = sum(e.length for e in _delta(lab, None, target) if e.kind == "data")
    must(data <= volume.size // 4, f"4 KiB were written, {data} of {volume.size} bytes are reported as data")
