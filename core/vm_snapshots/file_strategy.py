"""Disk-only snapshots as files: one atomic external snapshot of all disks (KVM on NFS, local disks, CephFS).

The guest goes on in overlays; what it wrote to becomes the snapshot. Much cheaper than an internal snapshot,
and the only one of a running KVM guest without its memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ..spi import DiskFormat, Overlays, ShowsDisks, VmState
from .chain import Chain, Remove, remove_file
from .strategy import Asked, Job, Plan, Priority, Settled, Strategy, Taken


class FileStrategy(Strategy):
    """Overlays over file volumes.

    Args:
        overlay_format: "qcow2", unless the hypervisor has overlays of its own kind.
        remove: how an image file is removed.
    """

    name: ClassVar = "file"
    priority: ClassVar = Priority.HIGHEST

    def __init__(self, overlay_format: DiskFormat = "qcow2", remove: Remove = remove_file) -> None:
        self._format = overlay_format
        self._remove = remove

    def obstacle(self, asked: Asked) -> str:
        """See `Strategy.obstacle`."""
        machine = asked.machine
        if not (machine.hypervisor.has(Overlays) and machine.hypervisor.has(ShowsDisks)):
            return "the hypervisor has no overlays"
        if asked.spec.memory:
            return "it takes no memory"
        if any(volume.pool.managed for volume in machine.volumes):
            return "a volume is on managed storage"
        if asked.in_use - {self.name}:
            return "the VM has snapshots of another kind"
        if asked.volume_snapshots:
            return "a volume has snapshots of its own, which a new image would cut off"
        return ""

    def plan(self, asked: Asked) -> Plan:
        """See `Strategy.plan`."""
        devices = {volume.device: volume.volume for volume in asked.machine.volumes}
        spec = asked.spec
        members, work = Chain.plan_take(asked.machine, spec.id, devices, self._format, asked.call)
        return Plan(members=members, work=work)

    def take(self, job: Job) -> Taken:
        """See `Strategy.take`; the hypervisor freezes and thaws around its cut, if that is asked for."""
        quiesce = job.snapshot.spec.quiesce and job.state is VmState.RUNNING
        begun = job.call.clock()
        Chain(job).cut(job.call, quiesce=quiesce)
        return Taken(quiesced=quiesce, frozen_seconds=job.call.clock() - begun if quiesce else 0.0)

    def undo(self, job: Job) -> None:
        """See `Strategy.undo`."""
        Chain(job, self._remove).uncut()

    def find(self, job: Job) -> Taken | None:
        """See `Strategy.find`. The overlays came with the freeze or not at all, so they prove it."""
        if not Chain(job).is_cut():
            return None
        return Taken(quiesced=job.snapshot.spec.quiesce and job.state is VmState.RUNNING)

    def plan_revert(self, job: Job) -> Mapping[str, Any]:
        """See `Strategy.plan_revert`."""
        return Chain(job).plan_revert(self._format)

    def revert(self, job: Job) -> None:
        """See `Strategy.revert`."""
        Chain(job, self._remove).revert()

    def settle_revert(self, job: Job) -> Settled:
        """See `Strategy.settle_revert`: a VM that still stands still is put where it was to go."""
        chain = Chain(job, self._remove)
        if job.state is not VmState.STOPPED and not chain.is_cut():
            chain.drop_unused()
            return Settled.NOT_DONE
        self.revert(job)
        return Settled.DONE

    def plan_delete(self, job: Job) -> Mapping[str, Any]:
        """See `Strategy.plan_delete`."""
        return Chain(job).plan_delete()

    def delete(self, job: Job) -> bool:
        """See `Strategy.delete`."""
        return Chain(job, self._remove).delete()
