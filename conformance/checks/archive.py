"""The archive round trip: from the driver's snapshot to a secondary store, and back to a new volume."""

from __future__ import annotations

from ...core.archive import Archive
from ...core.snapshots import VolumeSnapshots
from ...core.spi import InvalidArgument, NotFound, Snapshots
from ...transfer_objects.enums import SnapshotLocation
from ...transfer_objects.ids import SnapshotId, new_id
from .. import pattern
from ..lab import MIB, Lab, expected, must, refused
from ..model import Tier
from ..registry import check


def _service(lab: Lab) -> VolumeSnapshots:
    return VolumeSnapshots(pool=lab.pool, archive=Archive(lab.archive_store), mover=lab.mover)


def _volumes(lab: Lab) -> set[str]:
    return {v.id for v in lab.pool.volumes.list()}


@check("arc.full_round_trip", rule="snap.point-in-time", needs=(Snapshots,))
def check_full_round_trip(lab: Lab) -> None:
    """A snapshot is archived, the volume lost, and restored to a new volume with each block equal."""
    volume, service = lab.volume(), _service(lab)
    lab.write(volume, 1)
    snapshot = SnapshotId(new_id(lab.prefix))
    before = _volumes(lab)
    service.take_both(volume.id, snapshot, lab.call())
    must(_volumes(lab) == before, f"archiving left volumes behind: {sorted(_volumes(lab) - before)}")
    lab.write(volume, 2)
    lab.pool.snapshots.delete(snapshot)
    lab.pool.volumes.delete(volume.id)
    restored = service.restore(volume.id, snapshot, lab.new_id(), lab.call())
    must(restored.size == volume.size, f"restored {restored.size} bytes instead of {volume.size}")
    lab.verify(restored.id, expected(volume.size, 1), owner=volume.id)


@check("arc.increment_round_trip", rule="cbt.covers", needs=(Snapshots,), tier=Tier.STANDARD)
def check_increment_round_trip(lab: Lab) -> None:
    """A full and an increment each restore to their own moment; the increment outlives its full."""
    volume, service = lab.volume(), _service(lab)
    archive = service.archive
    first, second = SnapshotId(new_id(lab.prefix)), SnapshotId(new_id(lab.prefix))
    lab.write(volume, 1)
    full = service.take_both(volume.id, first, lab.call()).archived
    place = 5 * MIB
    with lab.mover.writing_volume(lab.pool, volume.id) as sink:
        sink.write(place, pattern.block(volume.id, place, 2))
        sink.zero(0, pattern.BLOCK)
        sink.flush()
    increment = service.take_both(volume.id, second, lab.call(), parent=first).archived
    must(full is not None and increment is not None, "take_both returned no manifest")
    one = service.restore(volume.id, first, lab.new_id(), lab.call())
    lab.verify(one.id, expected(volume.size, 1) | {place: None}, owner=volume.id)
    archive.delete(lab.call(), volume=volume.id, snapshot=first)
    two = service.restore(volume.id, second, lab.new_id(), lab.call())
    lab.verify(two.id, expected(volume.size, 1) | {place: 2, 0: None}, owner=volume.id)


@check(
    "arc.location_archive", rule="any.idempotent", needs=(Snapshots,), kinds=("managed",), tier=Tier.STANDARD
)
def check_location_archive(lab: Lab) -> None:
    """Location Archive leaves the snapshot on secondary only, and asking again changes nothing."""
    volume, service = lab.volume(), _service(lab)
    lab.write(volume, 1)
    snapshot = SnapshotId(new_id(lab.prefix))
    before = _volumes(lab)
    for generation in (2, 3):
        taken = service.take(volume.id, snapshot, lab.call(), location=SnapshotLocation.ARCHIVE)
        must(not taken.on_primary, "the snapshot is still on the array")
        lab.write(volume, generation)
    with refused(NotFound):
        lab.pool.snapshots.get(snapshot)
    must(_volumes(lab) == before, f"archiving left volumes behind: {sorted(_volumes(lab) - before)}")
    restored = service.restore(volume.id, snapshot, lab.new_id(), lab.call())
    lab.verify(restored.id, expected(volume.size, 1), owner=volume.id)


@check("arc.location_archive_refused", rule="any.taxonomy", needs=(Snapshots,), kinds=("host",))
def check_location_archive_refused(lab: Lab) -> None:
    """On a non-managed pool location Archive is an error, and nothing is cut."""
    volume, service = lab.volume(), _service(lab)
    snapshot = SnapshotId(new_id(lab.prefix))
    with refused(InvalidArgument):
        service.take(volume.id, snapshot, lab.call(), location=SnapshotLocation.ARCHIVE)
    must(not list(lab.pool.snapshots.list(volume.id)), "a snapshot was made all the same")
