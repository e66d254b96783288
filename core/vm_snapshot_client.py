"""The part of a VM's snapshot that one storage pool makes (seed 2's fine-grained interface)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..transfer_objects.ids import VolumeId
from .checks import check_id
from .spi import Call, Internal, InvalidArgument, VmRef, VmSnapshots, VmSnapshotTaken

if TYPE_CHECKING:
    from .pool import Pool


class VmSnapshotClient:
    """Take, revert and delete the snapshots of all volumes of a VM that live on this pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def take(self, volumes: Sequence[VolumeId], vm: VmRef, call: Call | None = None) -> VmSnapshotTaken:
        """Cut all volumes together. The caller has quiesced the guest, and thaws it if told so."""
        driver = self._driver(volumes, vm)
        taken = self._pool.run(
            "vm_snapshot.take", tuple(volumes), lambda c: driver.take_vm_snapshot(volumes, vm, c), call
        )
        if set(taken.members) != set(volumes):
            raise Internal("the driver did not return one snapshot for each volume of the VM")
        return taken

    def revert(self, volumes: Sequence[VolumeId], vm: VmRef, call: Call | None = None) -> None:
        """Put all volumes back to the VM snapshot."""
        driver = self._driver(volumes, vm)
        self._pool.run(
            "vm_snapshot.revert", tuple(volumes), lambda c: driver.revert_vm_snapshot(volumes, vm, c), call
        )

    def delete(self, volumes: Sequence[VolumeId], vm: VmRef, call: Call | None = None) -> None:
        """Delete the VM snapshot's members on this pool."""
        driver = self._driver(volumes, vm)
        self._pool.run(
            "vm_snapshot.delete", tuple(volumes), lambda c: driver.delete_vm_snapshot(volumes, vm, c), call
        )

    def _driver(self, volumes: Sequence[VolumeId], vm: VmRef) -> VmSnapshots:
        check_id("vm", vm.vm)
        check_id("vm_snapshot", vm.snapshot)
        for volume in volumes:
            check_id("volume", volume)
        if not volumes or len(set(volumes)) != len(volumes):
            raise InvalidArgument("volumes must name at least one volume, each once")
        return self._pool.require(VmSnapshots)
