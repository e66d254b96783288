"""The driver-level strategy of the founding text: each storage takes its volumes, the guest stands still.

    freeze ─> group 1 ─> frozen? ─> group 2 ─> ... ─> frozen? ─> thaw          any failure: thaw, then undo
              array A                files

    revert    look ─> undo point of each storage ─> group 1 ─> group 2 ─> ... ─> undo points go
                                                       └─ a failure: those that were begun go back

Managed and non-managed volumes may be mixed in one VM. The guest is frozen whenever that is what makes it
one instant (several groups, or a storage that cuts volume by volume), also if nobody asked to quiesce.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ...transfer_objects.ids import VmSnapshotId, new_id
from ..spi import (
    Call,
    DiskFormat,
    InUse,
    Outcome,
    Overlays,
    ShowsDisks,
    StorageError,
    VmRef,
    VmState,
)
from .chain import Chain, Remove, remove_file
from .families import family_of
from .groups import FileGroup, Group, groups_of, kind_on
from .machine import Machine
from .members import Member, MemberKind
from .quiesce import DEFAULT_WINDOW, FrozenGuest, frozen
from .states import Event
from .strategy import Asked, Job, Plan, Priority, Settled, Strategy, Taken

_log = logging.getLogger("bollard.vm_snapshots")

_WAY_BACK = 120.0  # seconds for undoing a failed revert; on top of its deadline


class DriverStrategy(Strategy):
    """Group the volumes by driver, quiesce, let each take its own.

    Args:
        window: seconds for which a guest may be frozen; all groups must be cut within.
        overlay_format: of the overlays of volumes that are files.
        remove: how an image file is removed.
    """

    name: ClassVar = "driver"
    priority: ClassVar = Priority.HYPERVISOR

    def __init__(
        self,
        window: float = DEFAULT_WINDOW,
        overlay_format: DiskFormat = "qcow2",
        remove: Remove = remove_file,
    ) -> None:
        self._window = window
        self._format = overlay_format
        self._remove = remove

    def obstacle(self, asked: Asked) -> str:
        """See `Strategy.obstacle`."""
        machine = asked.machine
        if asked.spec.memory:
            return "it takes no memory"
        if asked.in_use - {self.name}:
            return "the VM has snapshots of another kind"
        kinds = _kinds(machine, asked.state)
        lacking = sorted({v.pool.name for v in machine.volumes if kinds[v.device] is None})
        if lacking:
            return f"pool {lacking[0]!r} can neither cut a volume in an instant nor be put back"
        if not any(volume.pool.managed for volume in machine.volumes):
            return "no volume is on managed storage"
        if MemberKind.FILE in kinds.values() and asked.volume_snapshots:
            return "a volume has snapshots of its own, which a new image would cut off"
        alone = len({v.pool.name for v in machine.volumes}) == 1 and set(kinds.values()) == {MemberKind.POOL}
        if asked.state is VmState.RUNNING and not alone and not family_of(machine.family).freezes:
            return f"{machine.family} freezes no guests, and several storages show one instant only so"
        return ""

    def plan(self, asked: Asked) -> Plan:
        """See `Strategy.plan`."""
        machine, kinds = asked.machine, _kinds(asked.machine, asked.state)
        members = [
            Member(device=v.device, volume=v.volume, kind=kind, pool=v.pool.name)
            for v in machine.volumes
            if (kind := kinds[v.device]) is not None and kind is not MemberKind.FILE
        ]
        files = {v.device: v.volume for v in machine.volumes if kinds[v.device] is MemberKind.FILE}
        work: dict[str, Any] = {}
        if files:
            images, work = Chain.plan_take(machine, asked.spec.id, files, self._format, asked.call)
            members += images
        return Plan(members=members, work=work)

    # -- taking ---------------------------------------------------------------------------------------

    def take(self, job: Job) -> Taken:
        """See `Strategy.take`."""
        machine, groups = job.machine, self._groups(job)
        wanted = job.snapshot.spec.quiesce or len(groups) > 1 or not all(g.one_shot for g in groups)
        if job.state is not VmState.RUNNING or not wanted or not family_of(machine.family).freezes:
            for group in groups:
                group.cut(_ref(job), job.call)
            return Taken()
        with frozen(machine.hypervisor, machine.vm, job.call, self._window) as guest:
            self._cut(groups, job, guest)
        return Taken(quiesced=True, frozen_seconds=guest.seconds)

    def _cut(self, groups: Sequence[Group], job: Job, guest: FrozenGuest) -> None:
        """Cut group after group; each must find, and leave, the guest frozen. Only the last may thaw it."""
        asked_to_thaw = True
        for group in groups:
            guest.check()
            asked_to_thaw = group.cut(_ref(job), guest.call)
        if asked_to_thaw:
            guest.check()
        else:
            guest.call.check(Outcome.APPLIED)  # it thawed by itself, and not because the time was over

    def undo(self, job: Job) -> None:
        """See `Strategy.undo`."""
        for group in self._groups(job):
            group.uncut(_ref(job), job.call)

    def find(self, job: Job) -> Taken | None:  # noqa: ARG002 - nothing it could ask
        """See `Strategy.find`: that the guest stood still to the end cannot be asked afterwards."""
        return None

    # -- reverting ------------------------------------------------------------------------------------

    def plan_revert(self, job: Job) -> Mapping[str, Any]:
        """See `Strategy.plan_revert`."""
        work = {"undo": new_id("undo")}
        return {**work, **self._chain(job).plan_revert(self._format)} if _has_files(job) else work

    def revert(self, job: Job) -> None:
        """See `Strategy.revert`; a failure puts back what was begun, and is then "not applied"."""
        self._drive(job, resumed=False)

    def settle_revert(self, job: Job) -> Settled:
        """See `Strategy.settle_revert`: driven to its end, which the storages' contract allows."""
        if job.snapshot.work.get("reverted"):
            _clear(self._groups(job), _undo(job), job.call)
            return Settled.DONE
        if job.state is not VmState.STOPPED:
            raise InUse(f"VM {job.machine.vm} was started half-reverted: stop it, then sync again")
        try:
            self._drive(job, resumed=True)
        except StorageError as error:
            if error.outcome is not Outcome.NOT_APPLIED:
                raise
            _log.warning("VM snapshot %s could not be reverted to: %s", job.snapshot.id, error)
            return Settled.NOT_DONE
        return Settled.DONE

    def _drive(self, job: Job, *, resumed: bool) -> None:
        """Revert all groups. One that resumes may find any of them reverted already."""
        groups, undo = self._groups(job), _undo(job)
        try:
            for group in groups:
                group.check_revert(_ref(job), job.call)
            for group in _storages(groups):
                group.cut(undo, job.call)
        except StorageError as error:
            error.outcome = Outcome.UNKNOWN if resumed else self._cleared(groups, undo)
            raise
        group = groups[0]
        try:
            for group in groups:
                group.revert(_ref(job), job.call)
        except StorageError as error:
            error.outcome = self._back(group, groups, undo, error)
            raise
        self._finish(job, groups)

    def _finish(self, job: Job, groups: Sequence[Group]) -> None:
        """Remove the undo points; from the record on there is no way back any more."""
        done = {**job.snapshot.work, "reverted": True}
        try:
            job.records.step(job.snapshot.id, Event.REVERT_REQUESTED, work=done)
            _clear(groups, _undo(job), job.call)
        except StorageError as error:
            error.outcome = Outcome.UNKNOWN  # all is reverted: `sync` says so
            raise

    def _back(self, at: Group, groups: Sequence[Group], undo: VmRef, error: StorageError) -> Outcome:
        """Put every storage back after a failed revert; where that fails, too, it is left to `sync`."""
        if isinstance(at, FileGroup) and error.outcome is not Outcome.NOT_APPLIED:
            return Outcome.UNKNOWN  # the files may be switched, and there is no way back from that
        call = Call.within(_WAY_BACK)  # the deadline of the revert may be what has failed
        try:
            for group in _storages(groups):
                group.revert(undo, call)
        except StorageError as other:
            _log.warning("a failed revert could not be undone, sync will finish it: %s", other)
            return Outcome.UNKNOWN
        return self._cleared(groups, undo)

    def _cleared(self, groups: Sequence[Group], undo: VmRef) -> Outcome:
        """Remove the undo points of a revert that changed nothing in the end."""
        try:
            _clear(groups, undo, Call.within(_WAY_BACK))
        except StorageError as error:
            _log.warning("undo points stay for now: %s", error)
            return Outcome.UNKNOWN
        return Outcome.NOT_APPLIED

    # -- deleting -------------------------------------------------------------------------------------

    def plan_delete(self, job: Job) -> Mapping[str, Any]:
        """See `Strategy.plan_delete`."""
        return self._chain(job).plan_delete() if _has_files(job) else {}

    def delete(self, job: Job) -> bool:
        """See `Strategy.delete`."""
        return all(group.delete(_ref(job), job.call) for group in self._groups(job))  # files come last

    def _chain(self, job: Job) -> Chain:
        return Chain(job, self._remove)

    def _groups(self, job: Job) -> list[Group]:
        pools = {volume.pool.name: volume.pool for volume in job.machine.volumes}
        return groups_of(job.snapshot.members, pools, self._chain(job))


def _storages(groups: Sequence[Group]) -> list[Group]:
    return [group for group in groups if not isinstance(group, FileGroup)]


def _clear(groups: Sequence[Group], undo: VmRef, call: Call) -> None:
    for group in _storages(groups):
        group.delete(undo, call)


def _undo(job: Job) -> VmRef:
    return VmRef(vm=job.machine.vm, snapshot=VmSnapshotId(job.snapshot.work["undo"]))


def _ref(job: Job) -> VmRef:
    return VmRef(vm=job.machine.vm, snapshot=job.snapshot.id)


def _has_files(job: Job) -> bool:
    return any(member.kind is MemberKind.FILE for member in job.snapshot.members)


def _kinds(machine: Machine, state: VmState) -> dict[str, MemberKind | None]:
    """Return by device who would keep each volume."""
    overlays = machine.hypervisor.has(Overlays) and machine.hypervisor.has(ShowsDisks)
    running = state is VmState.RUNNING
    return {v.device: kind_on(v.pool, running=running, overlays=overlays) for v in machine.volumes}
