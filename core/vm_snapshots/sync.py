"""After a restart: what became of the tasks of a process that died, decided by asking the backend.

    Allocated   ── nothing was begun ───────────────────────────────> Removed
    Creating    ── whole on the backend? ── yes ──> Ready
                                         └─ no, or nobody can say ──> Error, nothing left
    Reverting   ── done, or finished now ──> Ready, current
                   not begun             ──> Ready                    gone ──> Error
    Expunging   ── goes on ────────────────────────────────────────> Removed, or Hidden

All snapshots of a VM, oldest first; CloudStack's stops at the first, and can re-drive Expunging only. The
guest is thawed first: its own time limit may be far away.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from ...transfer_objects.ids import VmId, VmSnapshotId
from ..spi import Call, GuestState, StorageError, VmState
from ..steps import step
from .families import family_of
from .machine import Machine
from .manager import VmSnapshotManager
from .quiesce import guest_state, thaw
from .records import VmSnapshot
from .states import ACTIVE, Event, State
from .strategy import Settled

_log = logging.getLogger("bollard.vm_snapshots")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What became of one snapshot; `error` if its backend could not be asked: sync again."""

    vm: VmId
    snapshot: VmSnapshotId
    before: State
    after: State
    error: str = ""


@dataclass(frozen=True, slots=True)
class VmSnapshotSync:
    """Ends what dead processes left."""

    manager: VmSnapshotManager

    def all(self, call: Call) -> list[Ended]:
        """Go through all VMs; one that cannot be asked, or that somebody works on, keeps no other waiting."""
        ended: list[Ended] = []
        for vm in self.manager.records.unfinished():
            try:
                ended += self.vm(vm, call)
            except StorageError as error:
                _log.warning("the snapshots of VM %s cannot be synced now: %s", vm, error)
        return ended

    def vm(self, vm: VmId, call: Call) -> Sequence[Ended]:
        """End all that is under way on a VM, oldest first.

        Raises:
            Busy: a living process works on it.
            NotFound: the VM is gone.
        """
        manager = self.manager
        with manager.locks.task(vm):
            left = [one for one in manager.records.of_vm(vm) if one.state in ACTIVE]
            machine = manager.machines.machine(vm)
            if any(one.state is State.CREATING for one in left):
                self._thaw(machine, call)
            ended = [self._end(one, machine, call) for one in left]
            manager.collapse(machine, call)
        return ended

    def _thaw(self, machine: Machine, call: Call) -> None:
        hypervisor, vm = machine.hypervisor, machine.vm
        running = hypervisor.vm_state(vm, step(call)) is VmState.RUNNING
        if not running or not family_of(machine.family).freezes:
            return
        try:
            if guest_state(hypervisor, vm, call) is GuestState.FROZEN:
                thaw(hypervisor, vm)
        except StorageError as error:
            _log.warning("whether the guest of VM %s is frozen cannot be asked: %s", vm, error)

    def _end(self, one: VmSnapshot, machine: Machine, call: Call) -> Ended:
        try:
            self._settle(one, machine, call)
            error = ""
        except StorageError as failure:
            error = failure.message
        after = self.manager.records.get(one.id).state
        return Ended(vm=machine.vm, snapshot=one.id, before=one.state, after=after, error=error)

    def _settle(self, one: VmSnapshot, machine: Machine, call: Call) -> None:
        match one.state:
            case State.ALLOCATED:
                self.manager.records.step(one.id, Event.EXPUNGE_REQUESTED)
            case State.CREATING:
                self._settle_create(one, machine, call)
            case State.REVERTING:
                self._settle_revert(one, machine, call)
            case _:
                self.manager.expunge(one.id, machine, call)

    def _settle_create(self, one: VmSnapshot, machine: Machine, call: Call) -> None:
        records, strategy = self.manager.records, self.manager.strategy(one)
        begun = records.step(one.id, Event.CREATE_REQUESTED)
        job = self.manager.job(begun, machine, machine.hypervisor.vm_state(one.spec.vm, step(call)), call)
        taken = strategy.find(job)
        if taken is None:
            strategy.undo(job)
            records.step(one.id, Event.OPERATION_FAILED, error="interrupted, and undone", work={})
            return
        records.created(
            one.id,
            quiesced=taken.quiesced,
            frozen_seconds=taken.frozen_seconds,
            metadata_text=taken.metadata_text,
        )

    def _settle_revert(self, one: VmSnapshot, machine: Machine, call: Call) -> None:
        records, strategy = self.manager.records, self.manager.strategy(one)
        begun = records.step(one.id, Event.REVERT_REQUESTED)
        job = self.manager.job(begun, machine, machine.hypervisor.vm_state(one.spec.vm, step(call)), call)
        match strategy.settle_revert(job):
            case Settled.DONE:
                records.reverted(one.id)
            case Settled.NOT_DONE:
                records.step(one.id, Event.OPERATION_FAILED, error="interrupted before it began", work={})
            case Settled.LOST:
                records.step(one.id, Event.LOST, error="the hypervisor no longer has it", work={})
