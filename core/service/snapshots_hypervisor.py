"""A cut that the hypervisor makes possible: files cannot be copied while a guest writes them, so it writes
elsewhere meanwhile.

    volume <── guest                        the VM is held: nobody puts another overlay on it
    volume <── overlay <── guest            one instant, the guest frozen for it if asked
    volume <── overlay <── guest            the pool copies the volume, which nobody writes to
    volume <── guest                        what was written meanwhile is merged down; the overlay goes

The overlay's name says whose it is, and the snapshot is Creating as long as there is one. So a sync needs to
know nothing else: it asks the hypervisor where the guest writes, and merges. An overlay that the guest may
have written to is never removed unmerged.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from ...transfer_objects.ids import SnapshotId, VmId, VolumeId
from ..intents import Intents
from ..pool import Pool
from ..spi import (
    Call,
    Conflict,
    FileLocation,
    NotFound,
    Overlays,
    ShowsDisks,
    Snapshot,
    StorageError,
    Unavailable,
    VmState,
)
from ..steps import step
from ..vm_snapshots.chain import disks_of, live_image, remove_file
from ..vm_snapshots.machine import Machine
from .snapshots_claims import claimed
from .snapshots_context import Context
from .snapshots_merging import MergeMark

_LOOK_SECONDS = 30.0  # on top of the call's deadline


@contextmanager
def vm_held(journal: Intents, vm: VmId) -> Iterator[None]:
    """Keep VM snapshots, and cuts of other volumes, away from a VM: its hypervisor has one job at a time.

    Raises:
        Busy: somebody living has one of them under way; nothing was begun.
    """
    with claimed(journal, "vm", vm):
        yield


def needs_guest_elsewhere(pool: Pool) -> bool:
    """Tell whether a pool's volumes are files that cannot be copied while a guest writes to them."""
    return not pool.managed and not pool.traits.snapshot_while_attached


def can_lead_elsewhere(pool: Pool, machine: Machine | None) -> bool:
    """Tell whether the hypervisor can let the guest write elsewhere while the pool copies a volume."""
    if machine is None or not needs_guest_elsewhere(pool):
        return False
    return machine.hypervisor.has(Overlays) and machine.hypervisor.has(ShowsDisks)


@dataclass(frozen=True, slots=True)
class HypervisorCut:
    """One snapshot's cut; whoever works on it holds the snapshot and the VM.

    Attributes:
        device: of the VM, that has the volume.
        base: the volume's own file.
        overlay: where the guest writes meanwhile.
    """

    machine: Machine
    pool: Pool
    volume: VolumeId
    snapshot: SnapshotId
    device: str
    base: FileLocation
    overlay: FileLocation

    def take(self, call: Call, *, quiesce: bool) -> tuple[Snapshot, float]:
        """Make the snapshot on the pool; return it, and for how many seconds at most the guest stood still.

        A repeat never cuts later: it goes on with the overlay, or the snapshot, of the first time.

        Raises:
            Conflict: the guest writes to another file than the volume's own.
            Unavailable: it cannot be quiesced: the guest's agent does not answer.
            StorageError: the overlay may be in place still; see `end`.
        """
        made, frozen = self._made(call), 0.0
        if made is None:
            frozen = self._led_elsewhere(call, quiesce=quiesce)
            made = self.pool.snapshots.create(self.volume, self.snapshot, step(call))
        self.end(call)
        return made, frozen

    def end(self, call: Call) -> None:
        """Bring the guest back to the volume's own file, with all that it wrote; repeatable.

        Raises:
            Conflict: the guest writes to neither file, or to the volume while the overlay is not known to be
                merged: what is in the overlay may be lost.
        """
        if self._writes_to(call) == self.overlay:
            self._merge(call)
        elif self.overlay.path.exists() and not self._mark.proves(call):
            began = " since its merge began" if self._mark.path.exists() else ""
            raise Conflict(
                f"VM {self.machine.vm} was started without it{began}: {self.overlay.path} holds what it wrote"
                f" before to volume {self.volume}. Keep or remove that file, then sync"
            )
        remove_file(self.overlay.path)
        self._mark.clear(call)

    def _merge(self, call: Call) -> None:
        machine, driver = self.machine, self.machine.hypervisor.require(Overlays)
        self._mark.set(call)
        try:
            machine.hypervisor.run(
                "overlay.merge",
                lambda c: driver.merge_image(machine.vm, self.device, self.overlay, self.base, c),
                step(call),
            )
            if self._writes_to(call) != self.base:
                raise Unavailable(f"VM {machine.vm}: {self.overlay.path} is not merged yet")
        except StorageError:
            self._not_merged()
            raise

    def _not_merged(self) -> None:
        """Take the mark away if the guest writes to the overlay still, which holds everything until then."""
        with suppress(StorageError):  # it must not hide why the merge failed
            if self._writes_to(Call.within(_LOOK_SECONDS)) == self.overlay:
                remove_file(self._mark.path)

    @property
    def _mark(self) -> MergeMark:
        return MergeMark(self.machine, self.base, self.overlay)

    def _made(self, call: Call) -> Snapshot | None:
        """Return what a run before has made."""
        try:
            found = self.pool.snapshots.get(self.snapshot, step(call))
        except NotFound:
            return None
        if found.volume != self.volume:
            raise Conflict(f"pool {self.pool.name!r} has a snapshot {self.snapshot} of volume {found.volume}")
        return found

    def _led_elsewhere(self, call: Call, *, quiesce: bool) -> float:
        machine, overlays = self.machine, {self.device: self.overlay}
        state = machine.hypervisor.vm_state(machine.vm, step(call))
        if self._writes_to(call) == self.overlay or state is VmState.STOPPED:
            return 0.0
        driver, begun = machine.hypervisor.require(Overlays), call.clock()
        machine.hypervisor.run(
            "overlay.add",
            lambda c: driver.add_overlays(machine.vm, overlays, c, quiesce=quiesce),
            step(call),
        )
        return call.clock() - begun if quiesce else 0.0

    def _writes_to(self, call: Call) -> FileLocation:
        """Return the file that the guest writes to, or will when it starts: the overlay or the volume."""
        live = live_image(self.machine, self.device, self.volume, disks_of(self.machine, call))
        for one in (self.overlay, self.base):
            if live.path.resolve() == one.path.resolve():
                return one
        raise Conflict(f"VM {self.machine.vm} writes volume {self.volume} to {live.path}, not to its file")


def hypervisor_cut(
    ctx: Context, machine: Machine, pool: Pool, volume: VolumeId, snapshot: SnapshotId, call: Call
) -> HypervisorCut:
    """Return the cut of a snapshot of a volume that a VM has.

    Raises:
        NotFound: the VM has no such volume, or the pool has not.
        Conflict: the volume is no file.
    """
    device = next((one.device for one in machine.volumes if one.volume == volume), None)
    if device is None:
        raise NotFound(f"VM {machine.vm} has no volume {volume}")
    base, overlay = files_of_cut(ctx, pool, volume, snapshot, call)
    return HypervisorCut(machine, pool, volume, snapshot, device, base, overlay)


def files_of_cut(
    ctx: Context, pool: Pool, volume: VolumeId, snapshot: SnapshotId, call: Call
) -> tuple[FileLocation, FileLocation]:
    """Return a volume's own file, and where a guest writes meanwhile; raises as `hypervisor_cut`."""
    base, form = pool.volumes.locate(volume, step(call)), ctx.overlay_format
    if not isinstance(base, FileLocation):
        raise Conflict(f"volume {volume} is no file")
    path = base.path.absolute().with_name(f"{volume}.{snapshot}.cut.{form}")
    return base, FileLocation(path=path, format=form)
