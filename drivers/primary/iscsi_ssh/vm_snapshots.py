"""All volumes of a VM cut at one instant: tgtd stands still for some milliseconds (agent/groups.py)."""

from __future__ import annotations

from collections.abc import Sequence

from ....core.spi import Call, InUse, NotFound, VmRef, VmSnapshots, VmSnapshotTaken
from ....transfer_objects.ids import SnapshotId, VolumeId
from .names import member_id, own_volume
from .snapshots import IscsiSnapshots


class IscsiVmSnapshots(IscsiSnapshots, VmSnapshots):
    """All members appear with one rename, or none."""

    def take_vm_snapshot(self, volumes: Sequence[VolumeId], vm: VmRef, call: Call) -> VmSnapshotTaken:
        """See `VmSnapshots.take_vm_snapshot`.

        `need_unquiesce` is True: the array thaws no guest, so whoever froze it must.
        """
        members = _members(volumes, vm)
        if members:
            self._array.ask("take-group", call, members=members)
        return VmSnapshotTaken(need_unquiesce=True, members=members)

    def revert_vm_snapshot(self, volumes: Sequence[VolumeId], vm: VmRef, call: Call) -> None:
        """See `VmSnapshots.revert_vm_snapshot`. Nothing is begun unless all can be reverted."""
        members = _members(volumes, vm)
        for volume, snapshot in members.items():
            self.get_volume(volume, call)
            if self.get_snapshot(snapshot, call).volume != volume:
                raise NotFound(f"VM snapshot {vm.snapshot} has no member of volume {volume}")
            if self.list_grants(volume, call):
                raise InUse(f"volume {volume} is granted to a host")
        for volume, snapshot in members.items():
            self.revert_volume(volume, snapshot, call)

    def delete_vm_snapshot(self, volumes: Sequence[VolumeId], vm: VmRef, call: Call) -> None:
        """See `VmSnapshots.delete_vm_snapshot`; members of volumes that are not named stay."""
        members = _members(volumes, vm)
        if members:
            self._array.ask("delete-group", call, members=members)


def _members(volumes: Sequence[VolumeId], vm: VmRef) -> dict[VolumeId, SnapshotId]:
    for volume in volumes:
        own_volume(volume)
    return {volume: member_id(vm.snapshot, volume) for volume in volumes}
