"""Where a volume is now: asked of the hypervisor, since what the catalog says may be older.

the VM that the catalog names has it ──> its disk
else all VMs are asked ──────────────── one has it ──> its disk
                                        none has it ─> nowhere: the pool's own file
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...transfer_objects.ids import VmId, VolumeId
from ..catalog import Catalog
from ..catalog.volumes import VolumeRecord
from ..pool import Pool
from ..snapshots.kvm import Disk
from ..spi import (
    Call,
    Conflict,
    FileLocation,
    HasDependents,
    NotFound,
    ShowsDisks,
    Unsupported,
    VmDisk,
    VmState,
)
from ..vm_snapshots.hypervisor import Hypervisor
from .increments_backups import opened

_PATIENCE = 60.0  # seconds for all questions about one volume


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """Finds the volumes of one pool, in the VMs of one hypervisor or in the pool's files."""

    pool: Callable[[], Pool]
    hypervisor: Callable[[], Hypervisor]
    catalog: Catalog

    def vm_state(self, vm: VmId, call: Call) -> VmState:
        """Return a VM's power state."""
        return opened(self.hypervisor).vm_state(vm, call)

    def disk_of(self, volume: VolumeId) -> Disk | None:
        """Return where a volume is attached; None: nowhere.

        Raises:
            Conflict: several VMs have it.
            Unavailable: the hypervisor, or a host whose VM may have it, does not answer.
        """
        found = self.shown(volume, Call.within(_PATIENCE))
        return None if found is None else Disk(found[0], found[1].device)

    def shown(self, volume: VolumeId, call: Call) -> tuple[VmId, VmDisk] | None:
        """Return the VM that has a volume, and the disk that it is; raises as `disk_of`."""
        hypervisor = opened(self.hypervisor)
        noted = self._noted(volume)
        disk = _disk(hypervisor, VmId(noted), volume, call) if noted else None
        if disk is not None:
            return VmId(noted), disk
        vms = _vms_with(hypervisor, volume, call)
        if len(vms) > 1:
            raise Conflict(f"volume {volume} is a disk of several VMs: {', '.join(sorted(vms))}")
        disk = _disk(hypervisor, vms[0], volume, call) if vms else None
        return None if disk is None else (vms[0], disk)

    def _noted(self, volume: VolumeId) -> str:
        with self.catalog.reading() as session:
            record = session.get(VolumeRecord, volume)
        return "" if record is None or record.vm is None else record.vm

    def image_of(self, volume: VolumeId) -> Sequence[Path]:
        """Return the files of a volume that no VM has; none if it is gone, or a file without bitmaps.

        Raises:
            HasDependents: there are overlays of VM snapshots, and nobody here knows which is the newest.
        """
        try:
            own = self.own_image(volume)
        except NotFound:
            return ()
        if own.format != "qcow2":
            return ()
        refuse_overlays(volume, own.path)
        return (own.path,)

    def own_image(self, volume: VolumeId) -> FileLocation:
        """Return the pool's own file of a volume.

        Raises:
            NotFound: the pool has not got it.
            Unsupported: it is no file.
        """
        where = self.pool().volumes.locate(volume, Call.within(_PATIENCE))
        if not isinstance(where, FileLocation):
            raise Unsupported(f"volume {volume} is no file: it has no increments")
        return where


def refuse_overlays(volume: VolumeId, own: Path) -> None:
    """Refuse to take the pool's own file for the volume while VM snapshots have overlays on it.

    Raises:
        HasDependents: naming one of them.
    """
    for other in sorted(own.parent.glob(f"{volume}.*")):
        if other != own and other.suffix != ".json":
            raise HasDependents(
                f"{other.name} of a VM snapshot stands on {own.name}: delete the snapshot first"
            )


def _disk(hypervisor: Hypervisor, vm: VmId, volume: VolumeId, call: Call) -> VmDisk | None:
    shows = hypervisor.require(ShowsDisks)
    try:
        disks = hypervisor.run("vm.disks", lambda c: shows.vm_disks(vm, c), call)
    except NotFound:
        return None
    return next((disk for disk in disks if disk.object_id == volume), None)


def _vms_with(hypervisor: Hypervisor, volume: VolumeId, call: Call) -> Sequence[VmId]:
    shows = hypervisor.require(ShowsDisks)
    return hypervisor.run("vm.having", lambda c: shows.vms_with(volume, c), call)
