"""Increments in the archive: each restores to its own moment, whatever becomes of the snapshots."""

from __future__ import annotations

from ...core.archive import Archive
from ...core.snapshots import VolumeSnapshots
from ...core.spi import Reverts, Snapshots, Volume
from ...transfer_objects.ids import SnapshotId, new_id
from .. import pattern
from ..lab import MIB, Lab, must
from ..model import Tier
from ..registry import check
from ._bytes import digest

_SIZE = 4 * MIB
_DEEP = 12


def _service(lab: Lab) -> VolumeSnapshots:
    return VolumeSnapshots(pool=lab.pool, archive=Archive(lab.archive_store), mover=lab.mover)


def _change(lab: Lab, volume: Volume, generation: int) -> str:
    """Write some blocks, zero some, and return the digest of the whole volume."""
    with lab.mover.writing_volume(lab.pool, volume.id) as sink:
        for _ in range(8):
            at = lab.notes.random.randrange(volume.size // pattern.BLOCK) * pattern.BLOCK
            sink.write(at, pattern.block(volume.id, at, generation))
        sink.zero(lab.notes.random.randrange(volume.size // MIB) * MIB, 256 * 1024)
        sink.flush()
    return digest(lab, volume.id)


def _restore_and_compare(lab: Lab, volume: Volume, points: dict[SnapshotId, str]) -> None:
    """Restore every point to a volume of its own; its digest is that of the moment."""
    service = _service(lab)
    for snapshot, wanted in points.items():
        restored = service.restore(volume.id, snapshot, lab.new_id(), lab.call())
        place = f"point {list(points).index(snapshot) + 1} of {len(points)}"
        must(digest(lab, restored.id) == wanted, f"{place} restores to other bytes than were cut")
        lab.pool.volumes.delete(restored.id)


def _chain(lab: Lab, volume: Volume, length: int, *, keep: int) -> dict[SnapshotId, str]:
    """Archive increments, each of the one before; the pool keeps the newest `keep` snapshots."""
    service, points, parent = _service(lab), dict[SnapshotId, str](), None
    for generation in range(1, length + 1):
        wanted = _change(lab, volume, generation)
        snapshot = SnapshotId(new_id(lab.prefix))
        service.take_both(volume.id, snapshot, lab.call(), parent=parent)
        points[snapshot], parent = wanted, snapshot
        for old in list(points)[:-keep] if keep else list(points):
            lab.pool.snapshots.delete(old)
    return points


@check("inc.chain_restore_each", rule="cbt.covers", needs=(Snapshots,), tier=Tier.STANDARD)
def check_chain_restore_each(lab: Lab) -> None:
    """Each point of a chain of increments restores to the bytes of its own moment.

    Where the driver tracks changes they are used, elsewhere hashes are compared. If only a later point
    is wrong, look at `inc.delta_applied_equals_target` first.
    """
    volume = lab.volume(_SIZE)
    _restore_and_compare(lab, volume, _chain(lab, volume, 4, keep=1))


@check("inc.chain_deep", rule="cbt.covers", needs=(Snapshots,), tier=Tier.DEEP)
def check_chain_deep(lab: Lab) -> None:
    """A long chain of increments restores at each of its points, also after every second was deleted."""
    volume = lab.volume(_SIZE)
    points = _chain(lab, volume, _DEEP, keep=1)
    service = _service(lab)
    for snapshot in list(points)[::2]:
        service.archive.delete(lab.call(), volume=volume.id, snapshot=snapshot)
        del points[snapshot]
    _restore_and_compare(lab, volume, points)


@check(
    "inc.base_deleted_falls_back_to_full",
    rule="cbt.lost",
    needs=(Snapshots,),
    tier=Tier.STANDARD,
    field_bug="virtnbdbackup#225, #237: a lost bitmap gave empty increments",
)
def check_base_deleted_falls_back_to_full(lab: Lab) -> None:
    """When the base has gone from the pool, the next increment is still whole.

    Core then compares hashes. A failure means that the driver answered for a base that it no longer has.
    """
    volume = lab.volume(_SIZE)
    _restore_and_compare(lab, volume, _chain(lab, volume, 2, keep=0))


@check("inc.restore_after_revert", rule="cbt.covers", needs=(Snapshots, Reverts), tier=Tier.STANDARD)
def check_restore_after_revert(lab: Lab) -> None:
    """An increment that is taken after the volume was reverted restores to what the volume held then.

    Its parent lies on the line that was left, so "changed since the parent" includes what the revert undid.
    """
    volume, service = lab.volume(_SIZE), _service(lab)
    wanted, points = {}, [SnapshotId(new_id(lab.prefix)) for _ in range(3)]
    wanted[points[0]] = _change(lab, volume, 1)
    service.take_both(volume.id, points[0], lab.call())
    wanted[points[1]] = _change(lab, volume, 2)
    service.take_both(volume.id, points[1], lab.call(), parent=points[0])
    lab.pool.volumes.revert(volume.id, points[0])
    wanted[points[2]] = _change(lab, volume, 3)
    service.take_both(volume.id, points[2], lab.call(), parent=points[1])
    _restore_and_compare(lab, volume, wanted)
