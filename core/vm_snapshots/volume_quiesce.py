"""`quiescevm` on a volume snapshot: only where the storage says that it can, never silently without.

pool has VOLUME_SNAPSHOT_QUIESCEVM?   no  -> Unsupported, nothing done
the VM runs?                          no  -> an ordinary snapshot: there is nothing to quiesce
the family freezes guests?            no  -> Unsupported, nothing done
                                      yes -> the driver freezes, cuts, thaws; core thaws again
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from ...transfer_objects.ids import SnapshotId, VmId
from ..spi import Call, QuiescedSnapshots, Snapshot, Unsupported, VmState
from .families import family_of
from .guards import Act, check_act
from .hypervisor import Hypervisor
from .machine import Machine, VmVolume, step
from .quiesce import DEFAULT_WINDOW
from .records import Records


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeCut:
    """A volume's snapshot; `frozen_seconds` is how long the guest stood still for it."""

    snapshot: Snapshot
    quiesced: bool
    frozen_seconds: float


class VmGuest:
    """The guest of a VM, as a storage driver may freeze and thaw it (`core.spi.Guest`).

    Args:
        window: seconds after which it thaws by itself.
    """

    def __init__(self, hypervisor: Hypervisor, vm: VmId, window: float = DEFAULT_WINDOW) -> None:
        self._hypervisor = hypervisor
        self._vm = vm
        self._window = window
        self._since: float | None = None
        self.seconds = 0.0

    def freeze(self) -> None:
        """See `Guest.freeze`."""
        driver = self._hypervisor.driver
        self._since = time.monotonic()
        self._hypervisor.run("vm.freeze", lambda c: driver.freeze(self._vm, c), Call.within(self._window))

    def thaw(self) -> None:
        """See `Guest.thaw`."""
        driver = self._hypervisor.driver
        self._hypervisor.run("vm.thaw", lambda c: driver.thaw(self._vm, c), Call.within(self._window))
        if self._since is not None:
            self.seconds += time.monotonic() - self._since
            self._since = None


def snapshot_volume(
    records: Records,
    machine: Machine,
    volume: VmVolume,
    snapshot: SnapshotId,
    call: Call,
    *,
    quiesce: bool = False,
    window: float = DEFAULT_WINDOW,
) -> VolumeCut:
    """Take a snapshot of one volume of a VM.

    Raises:
        Unsupported: it cannot be quiesced as asked; nothing was done.
        StorageError: see `guards.check_act`, and the storage's own.
    """
    check_act(records, machine.vm, Act.SNAPSHOT_VOLUME)
    guest = _guest(machine, volume, call, window) if quiesce else None
    cut = volume.pool.snapshots.create(volume.volume, snapshot, step(call), guest=guest)
    seconds = guest.seconds if guest is not None else 0.0
    return VolumeCut(snapshot=cut, quiesced=seconds > 0, frozen_seconds=seconds)


def _guest(machine: Machine, volume: VmVolume, call: Call, window: float) -> VmGuest | None:
    volume.pool.require(QuiescedSnapshots)
    if machine.hypervisor.vm_state(machine.vm, step(call)) is not VmState.RUNNING:
        return None
    if not family_of(machine.family).freezes:
        raise Unsupported(f"{machine.family} freezes no guests: VM {machine.vm} cannot be quiesced")
    return VmGuest(machine.hypervisor, machine.vm, window)
