"""Snapshots that stay on the primary storage."""

from __future__ import annotations

from ...core.spi import (
    ChangedBlocks,
    Conflict,
    ExtentKind,
    InvalidArgument,
    NotFound,
    Reverts,
    Snapshots,
    VolumeFromSnapshot,
    VolumeSpec,
)
from ...transfer_objects.ids import SnapshotId, new_id
from .. import pattern
from ..lab import MIB, VOLUME_SIZE, Lab, expected, must, refused
from ..model import Tier
from ..registry import check


@check("snap.point_in_time", rule="snap.point-in-time", needs=(Snapshots,))
def check_point_in_time(lab: Lab) -> None:
    """A snapshot holds what was written before it, and nothing of what was written later."""
    volume = lab.volume()
    lab.write(volume, 1)
    snapshot = lab.snapshot(volume.id)
    lab.write(volume, 2)
    lab.verify_snapshot(snapshot.id, volume.id, expected(volume.size, 1))
    lab.verify(volume.id, expected(volume.size, 2))


@check("snap.idempotent", rule="snap.same-id", needs=(Snapshots,))
def check_idempotent(lab: Lab) -> None:
    """Asking for a snapshot again returns the first cut, not a later one; its id is taken elsewhere."""
    volume, other = lab.volume(), lab.volume()
    lab.write(volume, 1)
    snapshot = lab.snapshot(volume.id)
    lab.write(volume, 2)
    again = lab.pool.snapshots.create(volume.id, snapshot.id)
    must(again.created == snapshot.created, f"created changed from {snapshot.created} to {again.created}")
    lab.verify_snapshot(snapshot.id, volume.id, expected(volume.size, 1))
    with refused(Conflict):
        lab.pool.snapshots.create(other.id, snapshot.id)


@check("snap.of_missing_volume", rule="snap.no-volume", needs=(Snapshots,))
def check_of_missing_volume(lab: Lab) -> None:
    """A snapshot of a volume that is not there gives NotFound and leaves nothing."""
    snapshot = SnapshotId(new_id(lab.prefix))
    with refused(NotFound):
        lab.pool.snapshots.create(lab.new_id(), snapshot)
    with refused(NotFound):
        lab.pool.snapshots.get(snapshot)


@check("snap.delete_keeps_others", rule="snap.delete-keeps-others", needs=(Snapshots,), tier=Tier.STANDARD)
def check_delete_keeps_others(lab: Lab) -> None:
    """Deleting the middle one of three snapshots leaves the others and the volume as they were."""
    volume = lab.volume()
    taken = []
    for generation in (1, 2, 3):
        lab.write(volume, generation)
        taken.append(lab.snapshot(volume.id))
    lab.pool.snapshots.delete(taken[1].id)
    lab.pool.snapshots.delete(taken[1].id)
    left = {s.id for s in lab.pool.snapshots.list(volume.id)}
    must(left == {taken[0].id, taken[2].id}, f"left are {sorted(left)}")
    lab.verify_snapshot(taken[0].id, volume.id, expected(volume.size, 1))
    lab.verify_snapshot(taken[2].id, volume.id, expected(volume.size, 3))
    lab.verify(volume.id, expected(volume.size, 3))


@check("snap.list_get", rule="snap.list-complete", needs=(Snapshots,))
def check_list_get(lab: Lab) -> None:
    """Every snapshot is listed once, and get agrees with what create returned."""
    volume = lab.volume()
    taken = [lab.snapshot(volume.id) for _ in range(5)]
    listed = [s.id for s in lab.pool.snapshots.list(volume.id)]
    must(sorted(listed) == sorted(s.id for s in taken), f"listed are {sorted(listed)}")
    for snapshot in taken:
        now = lab.pool.snapshots.get(snapshot.id)
        must(now.volume == volume.id, f"snapshot {snapshot.id} says it belongs to {now.volume}")
        must(now.size == volume.size, f"snapshot {snapshot.id} has {now.size} bytes")
        must(now.created == snapshot.created, f"created was {snapshot.created}, is {now.created}")
        must(now.created.tzinfo is not None, "created has no time zone")


@check("snap.revert_exact", rule="rev.exact", needs=(Snapshots, Reverts), tier=Tier.STANDARD)
def check_revert_exact(lab: Lab) -> None:
    """After a revert every block is the snapshot's, and newer snapshots are as declared."""
    volume = lab.volume()
    lab.write(volume, 1)
    first = lab.snapshot(volume.id)
    lab.write(volume, 2)
    second = lab.snapshot(volume.id)
    lab.write(volume, 3)
    lab.pool.volumes.revert(volume.id, first.id)
    lab.verify(volume.id, expected(volume.size, 1))
    left = {s.id for s in lab.pool.snapshots.list(volume.id)}
    must(first.id in left, "the snapshot that was reverted to is gone")
    if lab.pool.traits.revert_keeps_newer:
        must(second.id in left, "a newer snapshot is gone, though traits say that revert keeps it")
        lab.verify_snapshot(second.id, volume.id, expected(volume.size, 2))


@check("snap.revert_foreign_refused", rule="rev.foreign", needs=(Snapshots, Reverts))
def check_revert_foreign_refused(lab: Lab) -> None:
    """A volume cannot be put back to another volume's snapshot."""
    volume, other = lab.volume(), lab.volume()
    lab.write(volume, 1)
    snapshot = lab.snapshot(other.id)
    with refused(InvalidArgument):
        lab.pool.volumes.revert(volume.id, snapshot.id)
    lab.verify(volume.id, expected(volume.size, 1))


@check("snap.volume_from_snapshot", rule="clone.never-empty", needs=(Snapshots, VolumeFromSnapshot))
def check_volume_from_snapshot(lab: Lab) -> None:
    """A volume made from a snapshot equals it, is not empty when asked for twice, and is its own."""
    source = lab.volume()
    lab.write(source, 1)
    snapshot = lab.snapshot(source.id)
    lab.write(source, 2)
    spec = VolumeSpec(id=lab.new_id(), size=VOLUME_SIZE)
    for _ in range(2):
        made = lab.pool.volumes.from_snapshot(snapshot.id, spec)
        lab.verify(made.id, expected(source.size, 1), owner=source.id)
    lab.write(made, 3)
    lab.verify_snapshot(snapshot.id, source.id, expected(source.size, 1))


@check("snap.volume_from_larger_refused", rule="clone.smaller", needs=(Snapshots, VolumeFromSnapshot))
def check_volume_from_larger_refused(lab: Lab) -> None:
    """A volume smaller than the snapshot is refused."""
    source = lab.volume()
    snapshot = lab.snapshot(source.id)
    spec = VolumeSpec(id=lab.new_id(), size=VOLUME_SIZE // 2)
    with refused(InvalidArgument):
        lab.pool.volumes.from_snapshot(snapshot.id, spec)
    with refused(NotFound):
        lab.pool.volumes.get(spec.id)


@check(
    "inc.delta_covers_all_changes", rule="cbt.covers", needs=(Snapshots, ChangedBlocks), tier=Tier.STANDARD
)
def check_delta_covers_all_changes(lab: Lab) -> None:
    """Every block that changed between two snapshots lies in an extent that is reported as data."""
    volume = lab.volume()
    lab.write(volume, 1)
    base = lab.snapshot(volume.id)
    places = [0, 3 * MIB, 7 * MIB + 64 * 1024, volume.size - pattern.BLOCK]
    with lab.mover.writing_volume(lab.pool, volume.id) as sink:
        for at in places:
            sink.write(at, pattern.block(volume.id, at, 2))
        sink.flush()
    target = lab.snapshot(volume.id)
    # Through the client: it also refuses extents that are unsorted, overlapping or past the end.
    delta = list(lab.pool.snapshots.changed(base.id, target.id))
    for at in places:
        hit = [e for e in delta if e.offset <= at and at + pattern.BLOCK <= e.end]
        must(hit, f"DATA LOSS: the block at {at:#x} changed and is not reported")
        must(
            hit[0].kind is ExtentKind.DATA,
            f"the block at {at:#x} holds data and is reported as {hit[0].kind}",
        )
    full = list(lab.pool.snapshots.changed(None, target.id))
    must(any(e.offset <= places[-1] < e.end for e in full), "base None does not report the last block")


@check("inc.empty_when_unchanged", rule="cbt.covers", needs=(Snapshots, ChangedBlocks), tier=Tier.STANDARD)
def check_empty_when_unchanged(lab: Lab) -> None:
    """Between two snapshots without a write in between hardly anything is reported."""
    volume = lab.volume()
    lab.write(volume, 1)
    base, target = lab.snapshot(volume.id), lab.snapshot(volume.id)
    reported = sum(e.length for e in lab.pool.snapshots.changed(base.id, target.id))
    must(reported < volume.size // 2, f"{reported} of {volume.size} bytes are reported as changed")
