"""Commands that are a task of a VM's snapshots: one at a time per VM, among all machines of a fleet.

Without that a sync on another machine, which ends what a dead process has begun on the VM, could thaw the
guest in the midst of a cut, or take the half-made snapshot of a living task for a dead one's.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from ...transfer_objects import commands as c
from ..service.sync_vm_snapshots import fleet_vm_locks
from ..site import Site
from .names import vm_id

# Not DeleteDiskOnlyVmSnapshotCommand, which names no VM: it deletes files that none has open.
_TASKS = (
    c.CreateVMSnapshotCommand,
    c.RevertToVMSnapshotCommand,
    c.DeleteVMSnapshotCommand,
    c.RestoreVMSnapshotCommand,
    c.CreateDiskOnlyVmSnapshotCommand,
    c.RevertDiskOnlyVmSnapshotCommand,
    c.MergeDiskOnlyVmSnapshotCommand,
)


def vm_task(command: c.Command, site: Site) -> AbstractContextManager[None]:
    """Return what holds the command's VM while it is carried out; nothing for any other command.

    Entering raises `Busy` if a living process of the fleet has a task of the VM under way; nothing was begun.
    """
    name = command.vm_name if isinstance(command, _TASKS) else None
    if not name:  # its handler says what is wrong with it
        return nullcontext()
    return fleet_vm_locks(site.mover()).task(vm_id(name))
