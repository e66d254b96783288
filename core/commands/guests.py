"""Which hypervisor, host and VM a command is about."""

from __future__ import annotations

from ...transfer_objects.ids import VmId, VolumeId
from ..site import Site
from ..spi import Call, InvalidArgument, NotFound, ShowsDisks, Unsupported, VmDisk
from ..steps import step
from ..vm_snapshots.hypervisor import Hypervisor
from .names import vm_id


def hypervisor_of(site: Site, vm_name: str | None, call: Call) -> Hypervisor:
    """Return the hypervisor that has the VM; if there is only one, that one.

    Raises:
        NotFound: there are several, and none knows the VM.
        InvalidArgument: there are several, and the command names no VM.
    """
    names = list(site.config.hypervisors)
    if len(names) == 1 or not names:
        return site.hypervisor()
    vm = vm_id(vm_name)
    for name in names:
        hypervisor = site.hypervisor(name)
        try:
            hypervisor.vm_state(vm, step(call))
        except NotFound:
            continue
        return hypervisor
    raise NotFound(f"none of the hypervisors {', '.join(names)} knows VM {vm}")


def disk_of(hypervisor: Hypervisor, vm: VmId, volume: VolumeId, call: Call) -> VmDisk:
    """Return the disk of a VM that a volume is.

    Raises:
        NotFound: the VM has not got it.
    """
    for disk in disks_of(hypervisor, vm, call):
        if disk.object_id == volume:
            return disk
    raise NotFound(f"VM {vm} has no disk of volume {volume}")


def disks_of(hypervisor: Hypervisor, vm: VmId, call: Call) -> list[VmDisk]:
    """Return all disks of a VM."""
    shows = hypervisor.require(ShowsDisks)
    return list(hypervisor.run("vm.disks", lambda c: shows.vm_disks(vm, c), step(call)))


def held_by(site: Site, vm_name: str | None, volume: VolumeId, call: Call) -> VmDisk | None:
    """Return the disk that a VM has a volume as; None: none is named, has it, or can be asked."""
    if not vm_name or not site.config.hypervisors:
        return None
    try:
        return disk_of(hypervisor_of(site, vm_name, call), vm_id(vm_name), volume, call)
    except (NotFound, Unsupported):
        return None


def refuse_encryption(requires: object) -> None:
    """Refuse a volume with a passphrase, before anything is done.

    Raises:
        InvalidArgument: it has one.
    """
    if requires:
        raise InvalidArgument("encrypted volumes are not handled: a passphrase came along, and was not used")
