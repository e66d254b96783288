"""Commands that are a task of a VM's snapshots: one at a time per VM, among all machines of a fleet.

Without that a sync on another machine, which ends what a dead process has begun on the VM, could thaw the
guest in the midst of a cut, or take the half-made snapshot of a living task for a dead one's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ...transfer_objects import commands as c
from ...transfer_objects.objects import DataTO, SnapshotObjectTO, VolumeObjectTO
from ..service.sync_vm_snapshots import fleet_vm_locks
from ..site import Site
from .names import vm_id

_TASKS = (
    c.CreateVMSnapshotCommand,
    c.RevertToVMSnapshotCommand,
    c.DeleteVMSnapshotCommand,
    c.RestoreVMSnapshotCommand,
    c.CreateDiskOnlyVmSnapshotCommand,
    c.RevertDiskOnlyVmSnapshotCommand,
    c.MergeDiskOnlyVmSnapshotCommand,
)


def vms_of(command: c.Command) -> list[str]:
    """Return the names of the VMs that a command has a task for, in the order in which they are held.

    DeleteDiskOnlyVmSnapshotCommand names none itself: those that its snapshots, or their volumes, say count.
    """
    match command:
        case c.DeleteDiskOnlyVmSnapshotCommand():
            return sorted({name for one in command.snapshots if (name := vm_of(one))})
        case _:
            own = command.vm_name if isinstance(command, _TASKS) else None
            return [own] if own else []  # without one its handler says what is wrong


def vm_of(data: DataTO) -> str:
    """Return the name of the VM that an object belongs to, "" if it says none."""
    match data:
        case SnapshotObjectTO():
            return data.vm_name or (data.volume.vm_name if data.volume else None) or ""
        case VolumeObjectTO():
            return data.vm_name or ""
        case _:
            return ""


@contextmanager
def vm_task(command: c.Command, site: Site) -> Iterator[None]:
    """Hold a command's VMs while it is carried out; nothing for a command that is no such task.

    Raises:
        Busy: a living process of the fleet has a task of one of them under way; nothing was begun.
    """
    with ExitStack() as held:
        for name in vms_of(command):
            held.enter_context(fleet_vm_locks(site.mover()).task(vm_id(name)))
        yield
