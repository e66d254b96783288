"""CreateObjectCommand with a snapshot: who takes it.

    pool not managed, with a store to write to
        VM runs, hypervisor has backups    the hypervisor serves the instant, and it is archived from there
        else                               cut on the pool, archived, verified, removed from the pool
    any other                              cut on the pool

As CloudStack's KVM agent, which writes a snapshot to secondary storage at once if `imageStore` is set.
"""

from __future__ import annotations

from ...transfer_objects.cloudstack.ids import native_id
from ...transfer_objects.ids import SnapshotId, VmId, VolumeId
from ...transfer_objects.objects import SnapshotObjectTO
from ..archive import Archive, CreateOptions, Manifest
from ..dataplane import open_source
from ..pool import Pool
from ..site import Site
from ..snapshots import VolumeSnapshots
from ..snapshots.origin import origin_of
from ..spi import Backups, Call, Guest, NotFound, QuiescedSnapshots, Unsupported, VmState
from ..steps import step
from ..vm_snapshots.hypervisor import Hypervisor
from ..vm_snapshots.volume_quiesce import VmGuest
from .copy_to_store import find_archived, stored
from .guests import disk_of, hypervisor_of, refuse_encryption
from .names import Archived, snapshot_id, snapshot_path, vm_id, volume_id
from .storages import archive_on, given, pool_of
from .telling import told


def take_snapshot(data: SnapshotObjectTO, site: Site, call: Call) -> SnapshotObjectTO:
    """Take a snapshot; the same id again is the same cut."""
    volume_to = given(data.volume, "volume of the snapshot")
    refuse_encryption(volume_to.requires_encryption)
    pool, volume, snapshot = pool_of(site, data), volume_id(volume_to), snapshot_id(data)
    machine = _running(data, site, call)
    if data.image_store is not None and not pool.managed:
        archive = archive_on(site, data.image_store)
        manifest = _to_archive(data, pool, archive, Archived(volume, snapshot), machine, site, call)
        path = Archived(volume, snapshot).path
        return told(data, data_store=told(data).image_store, path=path, physical_size=stored(manifest))
    guest = _guest(data, pool, machine)
    pool.snapshots.create(volume, snapshot, step(call), guest=guest)
    return told(data, path=snapshot_path(volume, snapshot))


Running = tuple[Hypervisor, VmId]


def _running(data: SnapshotObjectTO, site: Site, call: Call) -> Running | None:
    """Return the VM of a snapshot's volume and its hypervisor, if it runs."""
    name = data.vm_name or (data.volume.vm_name if data.volume else None)
    if not name or not site.config.hypervisors:
        return None
    try:
        hypervisor = hypervisor_of(site, name, call)
        state = hypervisor.vm_state(vm_id(name), step(call))
    except NotFound:
        return None
    return None if state is VmState.STOPPED else (hypervisor, vm_id(name))


def _guest(data: SnapshotObjectTO, pool: Pool, machine: Running | None) -> Guest | None:
    """Return the guest that the pool is to freeze; None: nothing is to be frozen.

    Raises:
        Unsupported: it is to be, and the pool cannot.
    """
    if not data.quiesce_vm or machine is None:
        return None
    pool.require(QuiescedSnapshots)
    return VmGuest(*machine)


def _to_archive(
    data: SnapshotObjectTO,
    pool: Pool,
    archive: Archive,
    place: Archived,
    machine: Running | None,
    site: Site,
    call: Call,
) -> Manifest:
    if (manifest := find_archived(archive, place, call)) is not None:
        return manifest
    if machine is not None and machine[0].has(Backups):
        return _served(*machine, place, archive, pool.name, call, quiesce=data.quiesce_vm)
    if machine is not None and data.quiesce_vm:
        raise Unsupported(f"hypervisor {machine[0].name!r} cannot quiesce a snapshot of a file")
    service = VolumeSnapshots(pool=pool, archive=archive, mover=site.mover())
    service.take(place.volume, place.snapshot, call)
    return archive.show(step(call), volume=place.volume, snapshot=place.snapshot)


def _served(
    hypervisor: Hypervisor,
    vm: VmId,
    place: Archived,
    archive: Archive,
    origin: str,
    call: Call,
    *,
    quiesce: bool,
) -> Manifest:
    """Archive an instant that the hypervisor serves, while the guest runs on; a repeat finds the same one."""
    backups, device = hypervisor.require(Backups), disk_of(hypervisor, vm, place.volume, call).device
    checkpoint = _checkpoint(place.volume, place.snapshot)
    disk = hypervisor.run(
        "backup.begin",
        lambda c: backups.begin_backup(vm, device, c, checkpoint=checkpoint, quiesce=quiesce),
        step(call),
    )
    try:
        with open_source(disk.location) as content:
            options = CreateOptions(origin=origin_of(origin))
            return archive.create(
                content, call, volume=place.volume, snapshot=place.snapshot, options=options
            )
    finally:
        hypervisor.run("backup.end", lambda c: backups.end_backup(vm, device, c, keep=False), Call.within())


def _checkpoint(volume: VolumeId, snapshot: SnapshotId) -> str:
    return native_id(f"{volume}.{snapshot}")
