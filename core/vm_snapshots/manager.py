"""VM snapshots as an orchestrator asks for them: checked, written down before the act, undone if it fails.

    lock the VM -> check -> choose a strategy -> record -> act -> record
                                                   │ failed: undo, Error
                                                   │ killed: `sync` asks the backend

A snapshot's disks are one instant; the guest is frozen for the cut only, and thawed on every path.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from ...transfer_objects.ids import VmId, VmSnapshotId
from ..spi import (
    Call,
    Conflict,
    Internal,
    InvalidArgument,
    Outcome,
    PowersVms,
    StorageError,
    VmState,
)
from ..steps import step
from .checks import Hooks, check_create, check_delete, check_revert, check_spec
from .machine import Machine, Machines
from .records import Records, VmSnapshot, VmSnapshotSpec
from .states import ACTIVE, Event, State
from .strategy import Asked, Job, Strategy, choose
from .vm_locks import VmLocks

_log = logging.getLogger("bollard.vm_snapshots")

_UNDO = 120.0  # seconds for undoing what failed; on top of its deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class Reverted:
    """What a revert did.

    Attributes:
        state: of the VM now.
        offering: service offering that the VM had then, if it has another now: bring it back.
    """

    snapshot: VmSnapshot
    state: VmState
    offering: Mapping[str, str]


class VmSnapshotManager:
    """Creates, reverts to and deletes snapshots of VMs.

    Args:
        strategies: any of them; the best fit takes a snapshot, and is asked again to delete it.
        excluded: names of strategies that take no new snapshots.
    """

    def __init__(
        self,
        records: Records,
        machines: Machines,
        strategies: Sequence[Strategy],
        locks: VmLocks,
        *,
        hooks: Hooks | None = None,
        excluded: Collection[str] = (),
    ) -> None:
        self.records = records
        self.machines = machines
        self.locks = locks
        self._strategies = tuple(strategies)
        self._hooks = hooks or Hooks()
        self._excluded = frozenset(excluded)

    def list(self, vm: VmId) -> Sequence[VmSnapshot]:
        """Return the VM's snapshots that its user has not deleted, oldest first, with visible parents."""
        tree = self.records.tree(vm)
        return [
            replace(one, parent=tree.visible_parent(one.id)) if one.id in tree else one
            for one in self.records.of_vm(vm)
            if one.state is not State.HIDDEN
        ]

    # -- create ---------------------------------------------------------------------------------------

    def create(self, spec: VmSnapshotSpec, call: Call, *, account: str = "") -> VmSnapshot:
        """Take a snapshot; the same specification again returns it.

        Raises:
            StorageError: see `checks`; after a failure nothing of it is left, and its state is Error.
        """
        check_spec(spec)
        self._hooks.authorise(account, spec.vm)
        with self.locks.task(spec.vm):
            made = self.records.find(spec.id)
            if made is not None and made.state not in ACTIVE:
                return _same(made, spec)
            machine = self.machines.machine(spec.vm)
            state = machine.hypervisor.vm_state(spec.vm, step(call))
            others = self.records.of_vm(spec.vm)
            check_create(spec, state, others, self._hooks)
            asked = self._asked(spec, machine, state, others, call)
            return self._take(choose(self._strategies, asked, self._excluded), asked)

    def _asked(
        self,
        spec: VmSnapshotSpec,
        machine: Machine,
        state: VmState,
        others: Sequence[VmSnapshot],
        call: Call,
    ) -> Asked:
        return Asked(
            spec=spec,
            machine=machine,
            state=state,
            in_use=frozenset(one.strategy for one in others if one.taken),
            volume_snapshots=bool(self._hooks.volume_snapshots(spec.vm)),
            call=call,
        )

    def _take(self, strategy: Strategy, asked: Asked) -> VmSnapshot:
        plan, spec = strategy.plan(asked), asked.spec
        self.records.allocate(
            spec, strategy.name, plan.members, offering=asked.machine.offering, work=plan.work
        )
        snapshot = self.records.step(spec.id, Event.CREATE_REQUESTED)
        job = self.job(snapshot, asked.machine, asked.state, asked.call)
        try:
            taken = strategy.take(job)
        except StorageError as error:
            self._undo(strategy, job, error)
            raise
        return self.records.created(
            spec.id,
            quiesced=taken.quiesced,
            frozen_seconds=taken.frozen_seconds,
            metadata_text=taken.metadata_text,
        )

    def _undo(self, strategy: Strategy, job: Job, error: StorageError) -> None:
        """Remove what a failed take left; if that fails, too, it stays Creating for `sync`."""
        try:
            strategy.undo(replace(job, call=Call.within(_UNDO)))
        except StorageError as other:
            _log.warning("VM snapshot %s could not be undone, sync will: %s", job.snapshot.id, other)
            return
        self.records.step(job.snapshot.id, Event.OPERATION_FAILED, error=error.message, work={})

    # -- revert ---------------------------------------------------------------------------------------

    def revert(self, snapshot: VmSnapshotId, call: Call, *, account: str = "") -> Reverted:
        """Put the VM back. It is started before, for one with memory, or stopped, for one without.

        Raises:
            StorageError: after outcome "not applied" every disk is as it was.
        """
        vm = self.records.get(snapshot).spec.vm
        self._hooks.authorise(account, vm)
        with self.locks.task(vm):
            found = self.records.get(snapshot)
            machine = self.machines.machine(vm)
            state = machine.hypervisor.vm_state(vm, step(call))
            check_revert(found, state, self.records.of_vm(vm), self._hooks)
            wanted = VmState.RUNNING if found.spec.memory else VmState.STOPPED
            self._bring_to(wanted, state, machine, call)
            done = self._revert(found, machine, wanted, call)
            self.collapse(machine, call)
        offering = done.offering if done.offering != machine.offering else {}
        return Reverted(snapshot=done, state=wanted, offering=offering)

    def _bring_to(self, wanted: VmState, state: VmState, machine: Machine, call: Call) -> None:
        if wanted is state:
            return
        if not machine.hypervisor.has(PowersVms):
            verb = "start" if wanted is VmState.RUNNING else "stop"
            raise InvalidArgument(f"{verb} VM {machine.vm} first: its hypervisor driver cannot")
        power = machine.hypervisor.require(PowersVms)
        if wanted is VmState.RUNNING:
            self._hooks.before_start(machine.vm)
            machine.hypervisor.run("vm.start", lambda c: power.start_vm(machine.vm, c), step(call))
        else:  # by force: what the guest would still write is about to be replaced
            machine.hypervisor.run("vm.stop", lambda c: power.stop_vm(machine.vm, c, force=True), step(call))
            self._hooks.after_stop(machine.vm)

    def _revert(self, found: VmSnapshot, machine: Machine, state: VmState, call: Call) -> VmSnapshot:
        strategy = self.strategy(found)
        work = strategy.plan_revert(self.job(found, machine, state, call))
        snapshot = self.records.step(found.id, Event.REVERT_REQUESTED, work=work)
        try:
            strategy.revert(self.job(snapshot, machine, state, call))
        except StorageError as error:
            if error.outcome is Outcome.NOT_APPLIED:
                self.records.step(found.id, Event.OPERATION_FAILED, error=error.message, work={})
            raise
        return self.records.reverted(found.id)

    # -- delete ---------------------------------------------------------------------------------------

    def delete(self, snapshot: VmSnapshotId, call: Call, *, account: str = "") -> None:
        """Delete it; the VM and its other snapshots stay as they are. A deleted one is fine.

        Raises:
            StorageError: it is in state Error then, or still Expunging if nobody knows how far it came
                (libvirtd died with the VM paused): `sync` goes on with that. Deleting it again goes on with
                either.
        """
        found = self.records.find(snapshot)
        if found is None or found.state in (State.REMOVED, State.HIDDEN):
            return
        vm = found.spec.vm
        self._hooks.authorise(account, vm)
        with self.locks.task(vm):
            found = self.records.get(snapshot)
            if found.state is State.REMOVED:
                return
            check_delete(found, self.records.of_vm(vm), self._hooks)
            if found.state is State.ALLOCATED:
                self.records.step(snapshot, Event.EXPUNGE_REQUESTED)
                return
            machine = self.machines.machine(vm)
            self.expunge(snapshot, machine, call)
            self.collapse(machine, call)

    def expunge(self, snapshot: VmSnapshotId, machine: Machine, call: Call) -> None:
        """Delete or hide one; the VM is locked."""
        found = self.records.get(snapshot)
        strategy = self.strategy(found)
        state = machine.hypervisor.vm_state(machine.vm, step(call))
        # What a failed or killed deletion left half-done is finished as it was begun.
        work = found.work or strategy.plan_delete(self.job(found, machine, state, call))
        begun = self.records.step(snapshot, Event.EXPUNGE_REQUESTED, work=work)
        try:
            gone = strategy.delete(self.job(begun, machine, state, call))
        except StorageError as error:
            if error.outcome is not Outcome.UNKNOWN:
                self.records.step(snapshot, Event.OPERATION_FAILED, error=error.message)
            raise
        if gone:
            self.records.expunged(snapshot)
        else:
            self.records.step(snapshot, Event.HIDE, work={})

    def collapse(self, machine: Machine, call: Call) -> None:
        """Remove the hidden ones on which no more than one other stands; a failure is left to `sync`."""
        try:
            while (hidden := self._collapsible(machine.vm)) is not None:
                self.expunge(hidden, machine, call)
        except StorageError as error:
            _log.warning("a hidden snapshot of VM %s stays for now: %s", machine.vm, error)

    def _collapsible(self, vm: VmId) -> VmSnapshotId | None:
        tree = self.records.tree(vm)
        return next((n.id for n in tree if n.hidden and tree.dependents(n.id) <= 1), None)

    # -- shared with sync -----------------------------------------------------------------------------

    def job(self, snapshot: VmSnapshot, machine: Machine, state: VmState, call: Call) -> Job:
        """Return what a strategy is given."""
        return Job(snapshot=snapshot, machine=machine, state=state, records=self.records, call=call)

    def strategy(self, snapshot: VmSnapshot) -> Strategy:
        """Return the strategy that took it.

        Raises:
            Internal: this process has not got it.
        """
        for strategy in self._strategies:
            if strategy.name == snapshot.strategy:
                return strategy
        raise Internal(
            f"VM snapshot {snapshot.id} was taken by strategy {snapshot.strategy!r}, which is missing",
            outcome=Outcome.NOT_APPLIED,
        )


def _same(made: VmSnapshot, spec: VmSnapshotSpec) -> VmSnapshot:
    if made.spec != spec:
        raise Conflict(f"VM snapshot {spec.id} exists with another specification")
    if made.state is not State.READY:
        raise Conflict(f"VM snapshot {spec.id} is {made.state}: {made.error or 'take one with another id'}")
    return made
