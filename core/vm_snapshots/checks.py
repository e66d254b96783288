"""What is looked at before anything is done: each refusal says which rule, and nothing has changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...transfer_objects.ids import VmId
from ..checks import check_id
from ..spi import Busy, Conflict, InvalidArgument, LimitExceeded, VmState
from .records import VmSnapshot, VmSnapshotSpec
from .states import ACTIVE, Event, State, after

MAX_TEXT = 255  # characters, of name and description
DEFAULT_MAX_PER_VM = 10


def _allow(account: str, vm: VmId) -> None:
    """Allow everybody: an orchestrator that has accounts says who may."""


def _none(vm: VmId) -> Sequence[str]:  # noqa: ARG001 - see Hooks
    return ()


def _ignore(vm: VmId) -> None:
    """Do nothing: hosts of file pools reach them anyway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What only the orchestrator knows.

    Attributes:
        authorise: called with account and VM; raises `PermissionDenied`.
        busy_volume_snapshots: ids of snapshots of the VM's volumes that are being made or backed up.
        volume_snapshots: ids of all snapshots of the VM's volumes.
        before_start: a revert is about to start the VM: let its host use the volumes.
        after_stop: a revert has stopped the VM: its host must not use managed volumes any more.
        max_per_vm: how many snapshots a VM may have (`vmsnapshot.max`).
    """

    authorise: Callable[[str, VmId], None] = _allow
    busy_volume_snapshots: Callable[[VmId], Sequence[str]] = _none
    volume_snapshots: Callable[[VmId], Sequence[str]] = _none
    before_start: Callable[[VmId], None] = _ignore
    after_stop: Callable[[VmId], None] = _ignore
    max_per_vm: Callable[[VmId], int] = lambda _: DEFAULT_MAX_PER_VM


def check_spec(spec: VmSnapshotSpec) -> None:
    """Refuse what could not be kept or found again."""
    check_id("vm_snapshot.id", spec.id)
    check_id("vm", spec.vm)
    if not spec.name.strip():
        raise InvalidArgument("vm_snapshot.name must not be empty")
    for field in ("name", "description"):
        if len(getattr(spec, field)) > MAX_TEXT:
            raise InvalidArgument(f"vm_snapshot.{field} must have at most {MAX_TEXT} characters")


def check_create(spec: VmSnapshotSpec, state: VmState, others: Sequence[VmSnapshot], hooks: Hooks) -> None:
    """Refuse a snapshot that the VM cannot have now.

    Args:
        others: all that the VM has.
    """
    check_state(state)
    if spec.memory and state is not VmState.RUNNING:
        raise InvalidArgument(f"VM {spec.vm} is {state}: only a running VM has memory to take")
    check_idle(spec.vm, others, hooks)
    visible = [one for one in others if one.state is not State.HIDDEN]
    if any(one.spec.name == spec.name for one in visible):
        raise Conflict(f"VM {spec.vm} has a snapshot with the name {spec.name!r}")
    limit = hooks.max_per_vm(spec.vm)
    if len(visible) >= limit:
        raise LimitExceeded(f"VM {spec.vm} has {len(visible)} snapshots, and at most {limit} are allowed")


def check_revert(snapshot: VmSnapshot, state: VmState, others: Sequence[VmSnapshot], hooks: Hooks) -> None:
    """Refuse a revert that cannot be done now."""
    check_state(state)
    check_idle(snapshot.spec.vm, others, hooks)
    after(snapshot.state, Event.REVERT_REQUESTED)


def check_delete(snapshot: VmSnapshot, others: Sequence[VmSnapshot], hooks: Hooks) -> None:
    """Refuse a deletion that cannot be done now; one that was begun may be continued."""
    check_idle(snapshot.spec.vm, [one for one in others if one.id != snapshot.id], hooks)
    if snapshot.state in (State.CREATING, State.REVERTING):
        raise Busy(f"VM snapshot {snapshot.id} is {snapshot.state}: sync it first")
    after(snapshot.state, Event.EXPUNGE_REQUESTED)


def check_state(state: VmState) -> None:
    """Refuse a VM that neither runs nor is off."""
    if state not in (VmState.RUNNING, VmState.STOPPED):
        raise InvalidArgument(f"the VM is {state}: it must be running or stopped")


def check_idle(vm: VmId, others: Sequence[VmSnapshot], hooks: Hooks) -> None:
    """Refuse while anything else changes the VM's snapshots, or has stopped half-way."""
    for one in others:
        if one.state in ACTIVE:
            raise Busy(f"VM {vm} has a snapshot {one.id} that is {one.state}: sync ends what was left")
        if one.state is State.ERROR and one.work:
            raise Busy(f"VM {vm} has a snapshot {one.id} that is half deleted: delete it again first")
    busy = hooks.busy_volume_snapshots(vm)
    if busy:
        raise Busy(f"a volume of VM {vm} has a snapshot {busy[0]} that is being made")
