"""Orders about KVM's incremental snapshots.

An archived snapshot is a complete view, whatever it shares with its parents, so there is nothing to convert.
"""

from __future__ import annotations

from ...transfer_objects.cloudstack.ids import native_id
from ...transfer_objects.commands import (
    Answer,
    ConvertSnapshotAnswer,
    ConvertSnapshotCommand,
    RecreateCheckpointsCommand,
    RemoveBitmapCommand,
)
from ...transfer_objects.objects import VolumeObjectTO
from ..site import Site
from ..snapshots.kvm.tracking import ImageTracker
from ..spi import Backups, Call, Checkpoint, NotFound
from ..steps import step
from .copy_to_store import stored
from .guests import disk_of, hypervisor_of
from .images import own_image
from .names import archived, snapshot_id, vm_id, volume_id
from .storages import archive_of, given, on_primary, pool_of
from .telling import told

_MOST_NAMED = 100


def convert(command: ConvertSnapshotCommand, site: Site, call: Call) -> ConvertSnapshotAnswer:
    """Answer with the snapshot itself, which can be read without any other, once it was found there.

    Raises:
        NotFound: it is not there.
    """
    snapshot = given(command.snapshot, "snapshot")
    if on_primary(snapshot):
        pool_of(site, snapshot).snapshots.get(snapshot_id(snapshot), step(call))
        return ConvertSnapshotAnswer(snapshot=told(snapshot))
    place = archived(snapshot)
    manifest = archive_of(site, snapshot).show(call, volume=place.volume, snapshot=place.snapshot)
    flat = told(snapshot, path=place.path, physical_size=stored(manifest))
    return ConvertSnapshotAnswer(snapshot=flat)


def recreate_checkpoints(command: RecreateCheckpointsCommand, site: Site, call: Call) -> Answer:
    """Register the checkpoints of a VM's volumes again; it fails with the names of those that are lost."""
    vm = vm_id(command.vm_name)
    hypervisor = hypervisor_of(site, command.vm_name, call)
    backups = hypervisor.require(Backups)
    wanted = [
        Checkpoint(name=_last(path), device=disk_of(hypervisor, vm, volume_id(one), call).device, text="")
        for one in command.volumes
        for path in one.checkpoint_paths
    ]
    lost = hypervisor.run(
        "checkpoint.restore", lambda c: backups.restore_checkpoints(vm, wanted, c), step(call)
    )
    if lost:
        named = ", ".join(lost[:_MOST_NAMED]) + (" …" if len(lost) > _MOST_NAMED else "")
        return Answer(result=False, details=f"the bitmaps of these checkpoints are gone: {named}")
    return Answer()


def remove_bitmap(command: RemoveBitmapCommand, site: Site, call: Call) -> Answer:
    """Remove the bitmap that a snapshot's successor would build on; one that is gone is fine."""
    snapshot = given(command.snapshot, "snapshot")
    volume = given(snapshot.volume, "volume of the snapshot")
    name = _last(given(snapshot.checkpoint_path or snapshot.path, "path of the snapshot"))
    vm_name = snapshot.vm_name or volume.vm_name
    if not vm_name or not _remove_from_vm(vm_name, volume, name, site, call):
        image = own_image(pool_of(site, volume if volume.data_store else snapshot), volume_id(volume), call)
        ImageTracker([image.path]).delete(name, step(call))
    return Answer()


def _remove_from_vm(vm_name: str, volume: VolumeObjectTO, name: str, site: Site, call: Call) -> bool:
    """Remove it through the VM, running or not; False: no VM has the volume."""
    hypervisor, vm = hypervisor_of(site, vm_name, call), vm_id(vm_name)
    backups = hypervisor.require(Backups)
    try:
        device = disk_of(hypervisor, vm, volume_id(volume), call).device
    except NotFound:
        return False
    hypervisor.run("checkpoint.delete", lambda c: backups.delete_checkpoint(vm, device, name, c), step(call))
    return True


def _last(path: str) -> str:
    """Return the name of checkpoint and bitmap: the last part of a snapshot's path."""
    return native_id(path.rstrip("/").rpartition("/")[2])
