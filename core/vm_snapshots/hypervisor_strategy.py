"""The hypervisor takes the snapshot: of all disks, with or without memory (qcow2 internal, VMDK, VHD)."""

from __future__ import annotations

from typing import ClassVar

from ..spi import GuestState, KeepsSnapshotMetadata, NotFound, VmSnapshotMetadata, VmState
from ..steps import step
from .families import family_of
from .members import Member, MemberKind
from .quiesce import DEFAULT_WINDOW, frozen, guest_state
from .register import restore_register
from .strategy import Asked, Job, Plan, Priority, Settled, Strategy, Taken


class HypervisorStrategy(Strategy):
    """Snapshots of the hypervisor's own.

    Memory and quiesce exclude each other: a memory of a frozen guest would come back frozen.

    Args:
        window: seconds for which a guest may be frozen.
    """

    name: ClassVar = "hypervisor"
    priority: ClassVar = Priority.DEFAULT

    def __init__(self, window: float = DEFAULT_WINDOW) -> None:
        self._window = window

    def obstacle(self, asked: Asked) -> str:
        """See `Strategy.obstacle`."""
        machine = asked.machine
        if not machine.hypervisor.has(KeepsSnapshotMetadata):
            return "the hypervisor cannot tell which snapshots it has"
        if any(volume.pool.managed for volume in machine.volumes):
            return "a volume is on managed storage"
        if asked.in_use - {self.name}:
            return "the VM has snapshots of another kind"
        running = asked.state is VmState.RUNNING
        if running and not asked.spec.memory and not family_of(machine.family).disk_only_running:
            return f"{machine.family} takes no snapshot of a running VM without its memory"
        return ""

    def plan(self, asked: Asked) -> Plan:
        """See `Strategy.plan`."""
        return Plan(
            members=[
                Member(device=v.device, volume=v.volume, kind=MemberKind.HYPERVISOR, pool=v.pool.name)
                for v in asked.machine.volumes
            ]
        )

    def take(self, job: Job) -> Taken:
        """See `Strategy.take`; quiesced if asked, where the family can and the memory is not taken."""
        spec, machine = job.snapshot.spec, job.machine
        wanted = spec.quiesce and not spec.memory and job.state is VmState.RUNNING
        if not wanted or not family_of(machine.family).freezes:
            self._create(job)
            return self._taken(job)
        with frozen(machine.hypervisor, machine.vm, job.call, self._window) as guest:
            self._create(job)
            guest.check()
        return self._taken(job, quiesced=True, frozen_seconds=guest.seconds)

    def _create(self, job: Job) -> None:
        spec, hypervisor = job.snapshot.spec, job.machine.hypervisor
        hypervisor.run(
            "vm_snapshot.create",
            lambda c: hypervisor.driver.create_vm_snapshot(spec.vm, spec.id, c, memory=spec.memory),
            step(job.call),
        )

    def _taken(self, job: Job, *, quiesced: bool = False, frozen_seconds: float = 0.0) -> Taken:
        known = self._known(job)
        text = known.text if known is not None else ""
        return Taken(quiesced=quiesced, frozen_seconds=frozen_seconds, metadata_text=text)

    def undo(self, job: Job) -> None:
        """See `Strategy.undo`."""
        self.delete(job)

    def find(self, job: Job) -> Taken | None:
        """See `Strategy.find`. Whether a quiesced one was clean to its end cannot be asked: it goes."""
        if job.snapshot.spec.quiesce and family_of(job.machine.family).freezes:
            return None
        return None if self._known(job) is None else self._taken(job)

    def revert(self, job: Job) -> None:
        """See `Strategy.revert`."""
        spec, hypervisor = job.snapshot.spec, job.machine.hypervisor
        if self._known(job) is None:
            restore_register(job.records, job.machine, job.call)
        hypervisor.run(
            "vm_snapshot.revert",
            lambda c: hypervisor.driver.revert_vm_snapshot(spec.vm, spec.id, c),
            step(job.call),
        )
        if spec.memory and guest_state(hypervisor, spec.vm, job.call) is GuestState.FROZEN:
            # Its memory was taken while somebody had it frozen: nobody would thaw it now.
            hypervisor.run("vm.thaw", lambda c: hypervisor.driver.thaw(spec.vm, c), step(job.call))

    def settle_revert(self, job: Job) -> Settled:
        """See `Strategy.settle_revert`. Driving it again would undo what the guest did since."""
        known = self._known(job)
        if known is None:
            return Settled.LOST
        return Settled.DONE if known.current else Settled.NOT_DONE

    def delete(self, job: Job) -> bool:
        """See `Strategy.delete`; the hypervisor has its own tree, so nothing is ever hidden."""
        spec, hypervisor = job.snapshot.spec, job.machine.hypervisor
        hypervisor.run(
            "vm_snapshot.delete",
            lambda c: hypervisor.driver.delete_vm_snapshot(spec.vm, spec.id, c),
            step(job.call),
        )
        return True

    def _known(self, job: Job) -> VmSnapshotMetadata | None:
        spec, hypervisor = job.snapshot.spec, job.machine.hypervisor
        register = hypervisor.require(KeepsSnapshotMetadata)
        try:
            found = hypervisor.run(
                "vm_snapshot.metadata",
                lambda c: register.vm_snapshot_metadata(spec.vm, c),
                step(job.call),
            )
        except NotFound:
            return None
        return next((one for one in found if one.snapshot == spec.id), None)
