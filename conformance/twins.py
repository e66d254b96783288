"""Negative twins: for each capability, a call that must be refused where it is not declared."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..core.spi import Capability, Qos, VmRef, VolumeSpec
from ..transfer_objects.ids import SnapshotId, TemplateId, VmId, VmSnapshotId, VolumeId
from .lab import VOLUME_SIZE, Lab


def twin_calls(lab: Lab) -> Mapping[Capability, Callable[[], object]]:
    """Return one harmless call for each capability; all name objects that do not exist."""
    volumes, snapshots = lab.pool.volumes, lab.pool.snapshots
    volume, snapshot = VolumeId(f"{lab.prefix}-none"), SnapshotId(f"{lab.prefix}-none")
    spec = VolumeSpec(id=VolumeId(f"{lab.prefix}-never"), size=VOLUME_SIZE)
    vm = VmRef(vm=VmId("vm"), snapshot=VmSnapshotId("vms"))
    template = TemplateId(f"{lab.prefix}-none")
    host = lab.host()
    return {
        Capability.SNAPSHOTS: lambda: snapshots.create(volume, snapshot),
        Capability.DIRECT_SNAPSHOT_READ: lambda: snapshots.locate(snapshot),
        Capability.REVERT: lambda: volumes.revert(volume, snapshot),
        Capability.CLONE_VOLUME: lambda: volumes.clone(volume, spec),
        Capability.VOLUME_FROM_SNAPSHOT: lambda: volumes.from_snapshot(snapshot, spec),
        Capability.RESIZE: lambda: volumes.resize(volume, VOLUME_SIZE),
        Capability.CHANGED_BLOCKS: lambda: list(snapshots.changed(None, snapshot)),
        Capability.ACCESS_CONTROL: lambda: volumes.grant(volume, host),
        Capability.CHAP: lambda: volumes.rotate_chap(host),
        Capability.QOS: lambda: volumes.set_qos(volume, Qos(max_iops=100)),
        Capability.VM_SNAPSHOTS: lambda: lab.pool.vm_snapshots.take([volume], vm),
        Capability.ADOPT: lambda: volumes.adopt(f"{lab.prefix}-none", spec),
        Capability.TEMPLATE_CACHE: lambda: volumes.from_template(template, spec),
        Capability.CAPACITY: lab.pool.capacity,
    }
