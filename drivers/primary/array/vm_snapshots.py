"""All volumes of a VM cut at one instant, with one request."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from ....core.spi import Call, Conflict, InUse, NotFound, VmRef, VmSnapshots, VmSnapshotTaken
from ....transfer_objects.ids import VolumeId
from .client import Conversation
from .names import Kind, array_name, group_key, member_id
from .objects import ArraySnapshot
from .snapshots import ArraySnapshots
from .volumes import delete_if_there


class ArrayVmSnapshots(ArraySnapshots, VmSnapshots):
    """A VM snapshot is a group snapshot of the array: all members or none."""

    def take_vm_snapshot(self, volumes: Sequence[VolumeId], vm: VmRef, call: Call) -> VmSnapshotTaken:
        """See `VmSnapshots.take_vm_snapshot`.

        `need_unquiesce` is True: the array thaws no guest, so whoever froze it must.
        """
        talk = self._client.talk(call)
        ids = {volume: self._volume(talk, volume).id for volume in volumes}
        if not self._members(talk, vm):
            body = self._snapshot_body(Kind.GROUP, group_key(vm.snapshot))
            with contextlib.suppress(Conflict):  # another caller was faster; the next look decides
                talk.post("/group-snapshots", {**body, "volumes": list(ids.values())})
        if self._members(talk, vm).keys() != set(ids.values()):
            raise Conflict(f"VM snapshot {vm.snapshot} exists, of other volumes")
        group = group_key(vm.snapshot)
        members = {volume: member_id(group, array_id) for volume, array_id in ids.items()}
        return VmSnapshotTaken(need_unquiesce=True, members=members)

    def revert_vm_snapshot(self, volumes: Sequence[VolumeId], vm: VmRef, call: Call) -> None:
        """See `VmSnapshots.revert_vm_snapshot`. Nothing is begun unless all can be reverted."""
        talk = self._client.talk(call)
        targets = [self._volume(talk, volume) for volume in volumes]
        members = self._members(talk, vm)
        for volume, target in zip(volumes, targets, strict=True):
            if target.id not in members:
                raise NotFound(f"VM snapshot {vm.snapshot} has no member of volume {volume}")
            if target.grants:
                raise InUse(f"volume {volume} is granted to a host")
        for target in targets:
            self._revert(talk, target, members[target.id])

    def delete_vm_snapshot(self, volumes: Sequence[VolumeId], vm: VmRef, call: Call) -> None:
        """See `VmSnapshots.delete_vm_snapshot`; members of volumes that are not named stay."""
        talk = self._client.talk(call)
        found = [self._find(talk, volume) for volume in volumes]
        named = {volume.id for volume in found if volume is not None}
        for array_volume, member in self._members(talk, vm).items():
            if array_volume in named:
                delete_if_there(talk, "snapshots", member.id)

    def _members(self, talk: Conversation, vm: VmRef) -> dict[str, ArraySnapshot]:
        """Return the members that exist, by the array's id of their volume."""
        name = array_name(self.options.owner, Kind.GROUP, group_key(vm.snapshot))
        return {member.volume: member for member in self._snapshots_named(talk, name)}
