"""What an operator does with incremental snapshots, beyond what `core.snapshots.kvm` has as it is.

restore    into a new volume of any pool; half a one goes, at once or with the next sweep
revert     the pool's own file is replaced, so neither a VM nor a VM snapshot may need the old one
"""

from __future__ import annotations

from ...transfer_objects.ids import SnapshotId, VolumeId
from ..access import Mover
from ..catalog.volumes import VolumeRecord
from ..dataplane import BlockSink
from ..pool import Pool
from ..snapshots import kvm
from ..spi import Call, Conflict, FileLocation, HasDependents, NotFound, Unsupported, Volume, VolumeSpec
from ..steps import step
from .exclusion import check_volume_free
from .increments import IncrementSite
from .increments_volumes import refuse_overlays
from .snapshots_claims import claimed


def restore_volume(
    site: IncrementSite,
    snapshot: SnapshotId,
    target: VolumeId,
    pool: Pool,
    mover: Mover,
    call: Call,
    *,
    store: str | None = None,
) -> Volume:
    """Make a new volume of a snapshot.

    Args:
        store: id of the one to be read, where there are copies.

    Raises:
        NotFound: no such snapshot, or its user has deleted it.
        Conflict: there is a volume of this id.
        DataLoss: a file of the snapshot's chain is damaged or is not what the records say.
    """
    size = kvm.size_of(site.engine, snapshot, store=store)
    mover.make_room(pool, target)
    if _exists(pool, target, call):
        raise Conflict(f"pool {pool.name} has a volume {target}: it is not overwritten")
    with mover.filling_volume(pool, target):
        made = pool.volumes.create(VolumeSpec(id=target, size=size), step(call))
        with mover.writing_volume(pool, target) as sink:
            slow: BlockSink = pool.throttle.sink(sink, call)
            kvm.restore(site.engine, snapshot, slow, call, store=store)
    return made


def _exists(pool: Pool, volume: VolumeId, call: Call) -> bool:
    try:
        pool.volumes.get(volume, step(call))
    except NotFound:
        return False
    return True


def revert_volume(site: IncrementSite, volume: VolumeId, snapshot: SnapshotId, call: Call) -> None:
    """Put a volume back to one of its snapshots; its chain ends with that.

    Raises:
        InUse: its VM is not stopped, or something else has the file open.
        HasDependents: VM snapshots have overlays on it.
        Busy: something else is done with the volume.
    """
    own = site.volumes.own_image(volume)
    if own.format != "qcow2":
        raise Unsupported(f"volume {volume} is a raw file: it is not replaced by a qcow2 file")
    check_volume_free(site.engine.catalog, volume)
    site.check_stores(snapshot)
    with claimed(site.engine.journal, "volume", volume):
        _refuse_overlays(site, volume, own, call)
        size = kvm.size_of(site.engine, snapshot)
        kvm.revert(site.engine, volume, snapshot, own.path, call)
        with site.engine.catalog.transaction() as session:
            record = session.get(VolumeRecord, volume)
            if record is not None:
                record.size = size


def _refuse_overlays(site: IncrementSite, volume: VolumeId, own: FileLocation, call: Call) -> None:
    refuse_overlays(volume, own.path)
    shown = site.volumes.shown(volume, step(call))
    if shown is None:
        return
    vm, disk = shown
    path = disk.location.path if isinstance(disk.location, FileLocation) else None
    if path is None or path.resolve() != own.path.resolve():
        raise HasDependents(f"VM {vm} has volume {volume} from another image than the pool's own file")
