"""The archive on a bad day: damaged objects and interrupted runs."""

from __future__ import annotations

from ...core.archive import Archive, Level
from ...core.snapshots import VolumeSnapshots
from ...core.spi import Body, Call, DataLoss, DeadlineExceeded, NotFound, Snapshots
from ...transfer_objects.ids import SnapshotId, VolumeId, new_id
from ..lab import ContractBroken, Lab, must, refused
from ..model import Tier
from ..registry import check
from ._archives import Archived, archive_snapshot, archived, cut, dense, parts_of, read_object, stored_keys
from ._bytes import exists


def _must_not_restore(lab: Lab, of: Archived, why: str) -> None:
    """A restore ends in `DataLoss`, and leaves no volume with wrong bytes behind."""
    service, target = VolumeSnapshots(pool=lab.pool, archive=of.archive, mover=lab.mover), lab.new_id()
    try:
        service.restore(of.volume.id, of.snapshot, target, lab.call())
    except (DataLoss, NotFound):
        must(not exists(lab.pool, target), f"{why}: the half-restored volume was left behind")
        return
    raise ContractBroken(f"{why}, and the restore succeeded")


@check("arc.bit_flip_detected", rule="snap.point-in-time", needs=(Snapshots,), tier=Tier.STANDARD)
def check_bit_flip_detected(lab: Lab) -> None:
    """One flipped bit in a part, or in the manifest, is found by verify and stops a restore.

    Disks and stores rot. The alternative is a restored database that is wrong somewhere.
    """
    of = archived(lab)
    victim = parts_of(of)[len(parts_of(of)) // 2]
    manifest = f"v1/{of.volume.id}/{of.snapshot}/manifest.json"
    for key in (victim, manifest):
        whole = read_object(lab, key)
        broken = bytearray(whole)
        broken[len(broken) // 2] ^= 1
        lab.archive_store.put(key, Body.of(bytes(broken)), lab.call())
        _must_not_restore(lab, of, f"a bit of {key.rpartition('.')[2]} was flipped")
        try:
            report = of.archive.verify(lab.call(), volume=of.volume.id, snapshot=of.snapshot)
            must(report.problems, f"verify found nothing wrong with {key}")
        except DataLoss:
            pass
        lab.archive_store.put(key, Body.of(whole), lab.call())
    must(of.archive.verify(lab.call(), volume=of.volume.id, snapshot=of.snapshot).ok, "not whole again")


@check("arc.missing_part_detected", rule="snap.point-in-time", needs=(Snapshots,), tier=Tier.STANDARD)
def check_missing_part_detected(lab: Lab) -> None:
    """A part that has gone from the store is found by the cheapest verify, and stops a restore."""
    of = archived(lab)
    lab.archive_store.delete(parts_of(of)[-1], lab.call())
    report = of.archive.verify(lab.call(), volume=of.volume.id, snapshot=of.snapshot, level=Level.EXISTS)
    must(len(report.problems) == 1, f"one part is missing, verify reports {len(report.problems)}")
    _must_not_restore(lab, of, "a part is missing")


@check("arc.swapped_parts_detected", rule="snap.point-in-time", needs=(Snapshots,), tier=Tier.STANDARD)
def check_swapped_parts_detected(lab: Lab) -> None:
    """Two parts, each sound, under each other's names are found: a part is believed only in its place."""
    of = archived(lab)
    one, two = parts_of(of)[0], parts_of(of)[1]
    data = [read_object(lab, one), read_object(lab, two)]
    lab.archive_store.put(one, Body.of(data[1]), lab.call())
    lab.archive_store.put(two, Body.of(data[0]), lab.call())
    report = of.archive.verify(lab.call(), volume=of.volume.id, snapshot=of.snapshot)
    must(len(report.problems) == 2, f"two parts were swapped, verify reports {len(report.problems)}")
    _must_not_restore(lab, of, "two parts were swapped")


def _interrupted(lab: Lab, archive: Archive, volume: VolumeId, snapshot: SnapshotId) -> None:
    """Archive, and cancel half-way."""
    call = Call.within(60, progress=lambda done, total: call.cancel.set() if 2 * done >= total else None)
    try:
        archive_snapshot(lab, archive, volume, snapshot, call)
    except DeadlineExceeded:
        return
    raise ContractBroken("the run was cancelled half-way and claims success")


@check("arc.cancel_leaves_nothing_visible", rule="any.gone", needs=(Snapshots,), tier=Tier.STANDARD)
def check_cancel_leaves_nothing_visible(lab: Lab) -> None:
    """A cancelled run is in no listing, cannot be restored, and leaves no volume or grant on the pool.

    A failure about volumes is a temporary clone that was not removed: it costs space until somebody looks.
    """
    (volume, snapshot), archive = cut(lab), Archive(lab.archive_store, writer=new_id(lab.prefix)[:40])
    before = {v.id for v in lab.pool.volumes.list()}
    _interrupted(lab, archive, volume.id, snapshot)
    must(not list(archive.list(lab.call(), volume=volume.id)), "the cancelled run is listed")
    with refused(NotFound):
        archive.show(lab.call(), volume=volume.id, snapshot=snapshot)
    left = {v.id for v in lab.pool.volumes.list()} - before
    must(not left, f"the cancelled run left volumes on the pool: {sorted(left)}")


@check("arc.interrupted_resumes", rule="snap.immutable", needs=(Snapshots,), tier=Tier.STANDARD)
def check_interrupted_resumes(lab: Lab) -> None:
    """A run that was cancelled half-way goes on where it ended: parts that are stored are not sent again.

    It needs a snapshot that reads the same both times. A failure about the parts means that the second
    read differed from the first.
    """
    (volume, snapshot), archive = cut(lab), Archive(lab.archive_store, writer=new_id(lab.prefix)[:40])
    _interrupted(lab, archive, volume.id, snapshot)
    first = {key for key in stored_keys(lab, volume.id) if key.endswith(".zip")}
    must(first, "nothing was stored before the run was cancelled")
    manifest = archive_snapshot(lab, archive, volume.id, snapshot, lab.call())
    parts = [manifest.key_of(window, part) for window, part in manifest.parts()]
    resent = [key for key in parts if key not in first]
    must(len(resent) < len(parts), f"all {len(parts)} parts were sent again")
    service = VolumeSnapshots(pool=lab.pool, archive=archive, mover=lab.mover)
    restored = service.restore(volume.id, snapshot, lab.new_id(), lab.call())
    lab.verify(restored.id, dense(), owner=volume.id)
