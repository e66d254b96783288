"""VM snapshots of the disks alone: the file that was written to is the snapshot, the guest goes on above it.

create    base <── guest               becomes    base <── overlay <── guest
revert    base <── old <── guest       becomes    base <── new <── guest         old goes
merge     parent <── child <── guest   becomes    parent <── guest               child goes
delete    a file that nothing stands on
"""

from __future__ import annotations

from pathlib import Path

from ...transfer_objects.commands import (
    Answer,
    CreateDiskOnlyVmSnapshotAnswer,
    CreateDiskOnlyVmSnapshotCommand,
    DeleteDiskOnlyVmSnapshotCommand,
    DiskSnapshot,
    MergeDiskOnlyVmSnapshotCommand,
    MergeTree,
    RevertDiskOnlyVmSnapshotAnswer,
    RevertDiskOnlyVmSnapshotCommand,
)
from ...transfer_objects.ids import VmId, VolumeId, new_id
from ...transfer_objects.objects import DataTO, SnapshotObjectTO, TemplateObjectTO, VolumeObjectTO
from ..site import Site
from ..spi import (
    Call,
    FileLocation,
    HasDependents,
    InUse,
    InvalidArgument,
    Overlays,
    Unsupported,
    VmState,
)
from ..steps import step
from ..vm_snapshots.hypervisor import Hypervisor
from .guests import disk_of, held_by, hypervisor_of, refuse_encryption
from .images import image_at, image_below, overlay_at, own_image, remove_overlay
from .names import vm_id, vm_snapshot_id, volume_id
from .reverting import Switched, end_left, reverting
from .storages import given, object_of, pool_of
from .telling import told
from .vm_tasks import vm_of, vms_of


def create_disk_only(
    command: CreateDiskOnlyVmSnapshotCommand, site: Site, call: Call
) -> CreateDiskOnlyVmSnapshotAnswer:
    """Put each of the VM's volumes on an overlay, all at one instant; repeatable.

    The answer has the bytes of each snapshot, and the file that its volume continues in.
    """
    _refuse_firmware(uefi=command.uefi_enabled)
    target, vm = given(command.target, "VM snapshot"), vm_id(command.vm_name)
    asked = _wanted(command)
    if not asked:
        raise InvalidArgument("the command has no volumes")
    hypervisor = hypervisor_of(site, command.vm_name, call)
    driver, overlays, sizes = hypervisor.require(Overlays), {}, {}
    end_left(site, command.vm_name, call)
    for volume_to, name in asked:
        refuse_encryption(volume_to.requires_encryption)
        volume = volume_id(volume_to)
        disk = disk_of(hypervisor, vm, volume, call)
        own = own_image(pool_of(site, volume_to), volume, call)
        overlays[disk.device] = overlay = overlay_at(own, volume, name)
        present = _file(disk.location)
        if present.path == overlay.path:  # asked again: what it stands on is the snapshot
            present = image_below(overlay) or image_at(own, volume, volume_to.path)
        sizes[str(volume)] = (overlay, present)
    quiesce = target.quiesce_vm and hypervisor.vm_state(vm, step(call)) is VmState.RUNNING
    hypervisor.run("overlay.add", lambda c: driver.add_overlays(vm, overlays, c, quiesce=quiesce), step(call))
    return CreateDiskOnlyVmSnapshotAnswer(
        volumes={
            volume: DiskSnapshot(size=image.path.stat().st_size, path=overlay.path.name)
            for volume, (overlay, image) in sizes.items()
        }
    )


def _wanted(command: CreateDiskOnlyVmSnapshotCommand) -> list[tuple[VolumeObjectTO, str]]:
    """Return the volumes and the names of their new files: those asked for, or the snapshot's."""
    if command.volumes_and_new_paths:
        return [
            (given(one.volume, "volume"), given(one.path, "path").rpartition("/")[2])
            for one in command.volumes_and_new_paths
        ]
    name = f"{vm_snapshot_id(command.target)}.vms.qcow2"
    return [(volume, name) for volume in command.volumes]


def _file(location: object) -> FileLocation:
    if not isinstance(location, FileLocation):
        raise Unsupported("only volumes that are files have disk-only snapshots")
    return location


def revert_disk_only(
    command: RevertDiskOnlyVmSnapshotCommand, site: Site, call: Call
) -> RevertDiskOnlyVmSnapshotAnswer:
    """Put a stopped VM's volumes on new files above the snapshots' images; what it wrote to before goes.

    Each revert has files of its own: a repeated one must not be taken for the one before it, after which
    the guest has written. What one that was killed has left goes with the next task of the VM, or a sync.
    """
    _refuse_firmware(uefi=command.uefi_enabled or bool(command.nvram_snapshot_path))
    vm, token = vm_id(command.vm_name), new_id("r")
    hypervisor = hypervisor_of(site, command.vm_name, call)
    driver, overlays, bases = hypervisor.require(Overlays), {}, {}
    end_left(site, command.vm_name, call)
    switched: list[Switched] = []
    answered: list[VolumeObjectTO] = []
    for snapshot in command.snapshots:
        volume_to, own, volume = _owner(snapshot, site, call)
        disk = disk_of(hypervisor, vm, volume, call)
        old, base = _file(disk.location), image_at(own, volume, snapshot.path)
        kind = "qcow2" if old.path == own.path else old.format
        new = overlay_at(own, volume, f"{token}.vms.{kind}")
        overlays[disk.device], bases[disk.device] = new, base
        pool = pool_of(site, _placed(volume_to, snapshot))
        switched.append(Switched(pool=pool, volume=volume, own=own, base=base, old=old, new=new))
        answered.append(told(volume_to, path=new.path.name))
    with reverting(site, str(command.vm_name), switched, call):
        hypervisor.run("overlay.switch", lambda c: driver.switch_images(vm, overlays, bases, c), step(call))
    return RevertDiskOnlyVmSnapshotAnswer(volumes=tuple(answered))


def delete_disk_only(command: DeleteDiskOnlyVmSnapshotCommand, site: Site, call: Call) -> Answer:
    """Delete files of a snapshot that nothing stands on; one that is gone is fine.

    Raises:
        HasDependents: merge first.
        InUse: it is the file that the VM writes to, or that the volume continues in. No file was deleted.
    """
    _refuse_firmware(uefi=bool(command.nvram_snapshot_path))
    for name in vms_of(command):
        end_left(site, name, call)  # what a dead revert has left may stand on them
    files = [_deletable(snapshot, site, call) for snapshot in command.snapshots]
    for own, volume, image in files:
        remove_overlay(own, volume, image)
    return Answer()


def _deletable(snapshot: DataTO, site: Site, call: Call) -> tuple[FileLocation, VolumeId, FileLocation]:
    """Return a snapshot's file, with the volume that it belongs to, once it is known to be nobody's data."""
    volume_to, own, volume = _owner(snapshot, site, call)
    image = image_at(own, volume, snapshot.path)
    if image.path == own.path:
        raise HasDependents(f"volume {volume} stands on {image.path.name}: merge instead")
    if image.path in (image_at(own, volume, volume_to.path).path, _written(snapshot, volume, site, call)):
        raise InUse(f"volume {volume} continues in {image.path.name}: it is no snapshot")
    return own, volume, image


def _written(snapshot: DataTO, volume: VolumeId, site: Site, call: Call) -> Path | None:
    """Return the file that the snapshot's VM has the volume in; None: it names no VM, or that has it not."""
    disk = held_by(site, vm_of(snapshot), volume, call)
    return disk.location.path if disk and isinstance(disk.location, FileLocation) else None


def merge_disk_only(command: MergeDiskOnlyVmSnapshotCommand, site: Site, call: Call) -> Answer:
    """Merge each child into its parent; a running guest writes on meanwhile. Repeatable."""
    vm = vm_id(command.vm_name)
    hypervisor = hypervisor_of(site, command.vm_name, call)
    end_left(site, command.vm_name, call)
    for tree in command.merge_trees:
        _merge(tree, vm, hypervisor, site, call)
    return Answer()


def _merge(tree: MergeTree, vm: VmId, hypervisor: Hypervisor, site: Site, call: Call) -> None:
    driver = hypervisor.require(Overlays)
    parent, child = object_of(tree.parent, "parent"), object_of(tree.child, "child")
    _, own, volume = _owner(tree.volume or parent, site, call)
    top, base = image_at(own, volume, child.path), image_at(own, volume, parent.path)
    above = tuple(image_at(own, volume, one.path) for one in tree.grand_children)
    device = disk_of(hypervisor, vm, volume, call).device
    hypervisor.run(
        "overlay.merge",
        lambda c: driver.merge_image(vm, device, top, base, c, dependents=above),
        step(call),
    )
    remove_overlay(own, volume, top)


def _owner(data: DataTO, site: Site, call: Call) -> tuple[VolumeObjectTO, FileLocation, VolumeId]:
    """Return the volume that a file belongs to, its own file, and its id."""
    match data:
        case VolumeObjectTO():
            volume_to = data
        case SnapshotObjectTO():
            volume_to = given(data.volume, "volume of the snapshot")
        case TemplateObjectTO():
            raise InvalidArgument("a template has no disk-only snapshots")
    volume = volume_id(volume_to)
    return volume_to, own_image(pool_of(site, _placed(volume_to, data)), volume, call), volume


def _placed(volume: VolumeObjectTO, data: DataTO) -> DataTO:
    """Return which of the two says on what pool the volume is."""
    return volume if volume.data_store is not None else data


def _refuse_firmware(*, uefi: bool) -> None:
    if uefi:
        raise Unsupported("the variables of a UEFI guest cannot be snapshotted with its disks")
