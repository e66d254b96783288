"""Power and disks of simulated VMs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...core.spi import (
    Busy,
    Call,
    FileLocation,
    InvalidArgument,
    Location,
    MigratesVms,
    NbdLocation,
    PowersVms,
    ResizesDisks,
    ShowsDisks,
    Unsupported,
    VmDisk,
)
from ...transfer_objects.ids import HostId, VmId
from ...transfer_objects.secret import Secret
from .answers import Json, items, member
from .client import ClusterClient, path_of

_POLL = 0.05  # seconds between looks at a guest that shuts down


class SimulatedMachines(PowersVms, ShowsDisks, ResizesDisks, MigratesVms):
    """What happens to a VM as a whole, and to its disks."""

    _client: ClusterClient

    def start_vm(self, vm: VmId, call: Call) -> None:
        """See `PowersVms.start_vm`."""
        self._client.post(f"{path_of('vms', vm)}/start", call)

    def stop_vm(self, vm: VmId, call: Call, *, force: bool = False) -> None:
        """See `PowersVms.stop_vm`; a frozen guest shuts down when it has thawed."""
        while True:
            try:
                self._client.post(f"{path_of('vms', vm)}/stop", call, {"force": force})
            except Busy:
                time.sleep(call.remaining(_POLL))
                continue
            return

    def vm_disks(self, vm: VmId, call: Call) -> Sequence[VmDisk]:
        """See `ShowsDisks.vm_disks`. The cluster does not tell the names of exports: they are secrets."""
        disks = member(self._client.get(path_of("vms", vm), call), "disks", dict)
        return sorted((_disk(one) for one in disks.values()), key=lambda disk: disk.device)

    def vms_with(self, object_id: str, call: Call) -> Sequence[VmId]:
        """See `ShowsDisks.vms_with`."""
        names = [VmId(member(one, "id", str)) for one in items(self._client.get(path_of("vms"), call))]
        return [vm for vm in names if any(disk.object_id == object_id for disk in self.vm_disks(vm, call))]

    def resize_disk(self, vm: VmId, device: str, size: int, call: Call) -> None:
        """See `ResizesDisks.resize_disk`."""
        path = f"{path_of('vms', vm, 'disks', self._disk_name(vm, device, call))}/resize"
        self._client.post(path, call, {"size": size})

    def migrate_vm(
        self, vm: VmId, host: HostId, call: Call, *, disks: Mapping[str, FileLocation] | None = None
    ) -> None:
        """See `MigratesVms.migrate_vm`; the disks stay where they are.

        Raises:
            NotFound: the host is not there, or does not know a disk's object.
        """
        if disks:
            raise Unsupported("the simulated hypervisor moves no disks")
        self._client.post(f"{path_of('vms', vm)}/migrate", call, {"host": host})

    def _disk_name(self, vm: VmId, device: str, call: Call) -> str:
        """Return the cluster's name of the disk that the guest sees as `device`."""
        disks = member(self._client.get(path_of("vms", vm), call), "disks", dict)
        for name, disk in disks.items():
            if member(disk, "device", str) == device:
                return str(name)
        raise InvalidArgument(f"VM {vm} has no device {device!r}")


def _disk(shown: Json) -> VmDisk:
    known = shown.get("object")
    return VmDisk(
        device=member(shown, "device", str),
        object_id=member(known, "id", str) if known is not None else "",
        location=_location(member(shown, "address", dict)),
        size=member(shown, "size", int),
    )


def _location(address: Json) -> Location:
    if "path" not in address:
        place = member(address, "host", str), member(address, "port", int)
        return NbdLocation(address=place, export=Secret(""))
    form = member(address, "format", str)
    return FileLocation(path=Path(member(address, "path", str)), format="qcow2" if form == "qcow2" else "raw")
