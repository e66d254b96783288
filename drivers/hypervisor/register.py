"""The simulated hypervisor's register of VM snapshots."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ...core.spi import Call, KeepsSnapshotMetadata, VmSnapshotMetadata
from ...transfer_objects.ids import VmId, VmSnapshotId
from .answers import Json, items, member
from .client import ClusterClient, path_of


class SimulatedRegister(KeepsSnapshotMetadata):
    """What the cluster knows about snapshots beside their data."""

    _client: ClusterClient

    def vm_snapshot_metadata(self, vm: VmId, call: Call) -> Sequence[VmSnapshotMetadata]:
        """See `KeepsSnapshotMetadata.vm_snapshot_metadata`."""
        told = items(self._client.get(f"{path_of('vms', vm)}/snapshots", call))
        left = {member(one, "id", str): one for one in told if member(one, "registered", bool)}
        ordered: list[VmSnapshotMetadata] = []
        while left:
            roots = [one for one in left.values() if one.get("parent") not in left]
            for one in roots or list(left.values()):  # a cycle has no root: told as it is
                ordered.append(_metadata(one))
                del left[member(one, "id", str)]
        return ordered

    def drop_vm_snapshot_metadata(self, vm: VmId, call: Call) -> None:
        """See `KeepsSnapshotMetadata.drop_vm_snapshot_metadata`."""
        self._client.put(f"{path_of('vms', vm)}/register", call, {"snapshots": []})

    def restore_vm_snapshot_metadata(
        self, vm: VmId, metadata: Sequence[VmSnapshotMetadata], call: Call
    ) -> None:
        """See `KeepsSnapshotMetadata.restore_vm_snapshot_metadata`."""
        known = {one.snapshot: one for one in self.vm_snapshot_metadata(vm, call)}
        known.update({one.snapshot: one for one in metadata})
        marked = [one.snapshot for one in metadata if one.current]
        told = [
            {
                "id": one.snapshot,
                "parent": one.parent,
                "current": one.snapshot in marked if marked else one.current,
            }
            for one in known.values()
        ]
        self._client.put(f"{path_of('vms', vm)}/register", call, {"snapshots": told})


def _metadata(shown: Json) -> VmSnapshotMetadata:
    parent = shown.get("parent")
    return VmSnapshotMetadata(
        snapshot=VmSnapshotId(member(shown, "id", str)),
        parent=None if parent is None else VmSnapshotId(str(parent)),
        current=member(shown, "current", bool),
        text=json.dumps({"memory": member(shown, "memory", bool)}),
    )
