"""VM snapshots that the hypervisor takes of all disks, with memory or without."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from graphlib import CycleError, TopologicalSorter

from ...transfer_objects.commands import (
    CreateVMSnapshotAnswer,
    CreateVMSnapshotCommand,
    DeleteVMSnapshotAnswer,
    DeleteVMSnapshotCommand,
    PowerState,
    RestoreVMSnapshotAnswer,
    RestoreVMSnapshotCommand,
    RevertToVMSnapshotAnswer,
    RevertToVMSnapshotCommand,
)
from ...transfer_objects.enums import VMSnapshotType
from ...transfer_objects.ids import VmId, VmSnapshotId
from ...transfer_objects.objects import VMSnapshotTO
from ..site import Site
from ..spi import (
    Call,
    InvalidArgument,
    KeepsSnapshotMetadata,
    PowersVms,
    VmSnapshotMetadata,
    VmState,
)
from ..steps import step
from ..vm_snapshots.hypervisor import Hypervisor
from ..vm_snapshots.quiesce import frozen
from .guests import hypervisor_of
from .names import vm_id, vm_snapshot_id
from .storages import given
from .telling import told_vm_snapshot, told_volumes


def create_vm_snapshot(command: CreateVMSnapshotCommand, site: Site, call: Call) -> CreateVMSnapshotAnswer:
    """Take a snapshot; the same name again is the same cut. Quiesced for the cut alone, if that is asked for.

    Raises:
        InvalidArgument: quiesced with memory: it would come back frozen.
    """
    target, vm = given(command.target, "VM snapshot"), vm_id(command.vm_name)
    snapshot, memory = vm_snapshot_id(target), _has_memory(target)
    if memory and target.quiesce_vm:
        raise InvalidArgument("a snapshot with memory cannot be quiesced: its guest would come back frozen")
    hypervisor = hypervisor_of(site, command.vm_name, call)
    quiesce = target.quiesce_vm and hypervisor.vm_state(vm, step(call)) is VmState.RUNNING
    with frozen(hypervisor, vm, call) if quiesce else nullcontext() as guest:
        hypervisor.run(
            "vm_snapshot.create",
            lambda c: hypervisor.driver.create_vm_snapshot(vm, snapshot, c, memory=memory),
            step(call),
        )
        if guest is not None:
            guest.check()
    return CreateVMSnapshotAnswer(
        volumes=told_volumes(command.volumes), vm_snapshot=told_vm_snapshot(target), details=""
    )


def revert_vm_snapshot(
    command: RevertToVMSnapshotCommand, site: Site, call: Call
) -> RevertToVMSnapshotAnswer:
    """Put the VM back. One that is off is started before, for a snapshot with memory."""
    target, vm = given(command.target, "VM snapshot"), vm_id(command.vm_name)
    hypervisor, snapshot = hypervisor_of(site, command.vm_name, call), vm_snapshot_id(target)
    if _has_memory(target) and hypervisor.vm_state(vm, step(call)) is VmState.STOPPED:
        powers = hypervisor.require(PowersVms)
        hypervisor.run("vm.start", lambda c: powers.start_vm(vm, c), step(call))
    hypervisor.run(
        "vm_snapshot.revert",
        lambda c: hypervisor.driver.revert_vm_snapshot(vm, snapshot, c),
        step(call),
    )
    return RevertToVMSnapshotAnswer(
        volumes=told_volumes(command.volumes), vm_state=_power(hypervisor, vm, call)
    )


def delete_vm_snapshot(command: DeleteVMSnapshotCommand, site: Site, call: Call) -> DeleteVMSnapshotAnswer:
    """Delete it; its children move to its parent. One that is gone is fine."""
    vm, snapshot = vm_id(command.vm_name), vm_snapshot_id(command.target)
    hypervisor = hypervisor_of(site, command.vm_name, call)
    hypervisor.run(
        "vm_snapshot.delete",
        lambda c: hypervisor.driver.delete_vm_snapshot(vm, snapshot, c),
        step(call),
    )
    return DeleteVMSnapshotAnswer(
        volumes=told_volumes(command.volumes), vm_state=_power(hypervisor, vm, call)
    )


def restore_vm_snapshots(
    command: RestoreVMSnapshotCommand, site: Site, call: Call
) -> RestoreVMSnapshotAnswer:
    """Register a VM's snapshots again after a start or a migration; what is registered already is fine."""
    vm = vm_id(command.vm_name)
    hypervisor = hypervisor_of(site, command.vm_name, call)
    register = hypervisor.require(KeepsSnapshotMetadata)
    metadata = _register(command)
    hypervisor.run(
        "vm_snapshot.metadata.restore",
        lambda c: register.restore_vm_snapshot_metadata(vm, metadata, c),
        step(call),
    )
    return RestoreVMSnapshotAnswer(
        volumes=told_volumes(command.volumes), vm_state=_power(hypervisor, vm, call)
    )


def _register(command: RestoreVMSnapshotCommand) -> list[VmSnapshotMetadata]:
    """Return what is to be registered, parents first."""
    by_id = {vm_snapshot_id(one): one for one in command.snapshots}
    parents = {one: _parent(snapshot, command.snapshot_and_parents or {}) for one, snapshot in by_id.items()}
    above = {one: {parent} if parent in by_id else set() for one, parent in parents.items()}
    try:
        ordered = list(TopologicalSorter(above).static_order())
    except CycleError as error:
        raise InvalidArgument("the VM snapshots are each other's parents") from error
    return [
        VmSnapshotMetadata(
            snapshot=one,
            parent=next(iter(above[one]), None),
            current=bool(by_id[one].current),
            text="",
        )
        for one in ordered
    ]


def _parent(snapshot: VMSnapshotTO, parents: Mapping[str, VMSnapshotTO]) -> VmSnapshotId | None:
    found = parents.get(str(snapshot.id), snapshot.parent)
    return None if found is None else vm_snapshot_id(found)


def _has_memory(target: VMSnapshotTO) -> bool:
    return target.snapshot_type is VMSnapshotType.DISK_AND_MEMORY


def _power(hypervisor: Hypervisor, vm: VmId, call: Call) -> PowerState:
    stopped = hypervisor.vm_state(vm, step(call)) is VmState.STOPPED
    return PowerState.OFF if stopped else PowerState.ON
