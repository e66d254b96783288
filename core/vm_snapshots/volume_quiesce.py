"""`quiescevm` on a volume snapshot: only where somebody can do it, never silently without.

                     pool with VOLUME_SNAPSHOT_QUIESCEVM    chain of qcow2 files        any other pool
    KVM              the storage freezes, cuts, thaws       the hypervisor does it      refused
    VMware, Hyper-V  the storage freezes, cuts, thaws       refused                     refused
    XenServer        refused: it freezes no guests          refused                     refused
    the VM is off    an ordinary snapshot, on any of them that does it: there is nothing to quiesce

What is refused is refused before anything is done. Whatever the driver did, core thaws again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from ...transfer_objects.ids import SnapshotId, VmId
from ..catalog.snapshots import Ref, snapshot_of
from ..snapshots import kvm
from ..spi import Backups, Call, Guest, QuiescedSnapshots, Unsupported, VmState
from ..steps import step
from .families import family_of
from .guards import Act, check_act
from .hypervisor import Hypervisor
from .machine import Machine, VmVolume
from .quiesce import DEFAULT_WINDOW
from .records import Records

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeCut(Generic[T]):
    """A volume's snapshot.

    Attributes:
        snapshot: what was made, as whoever made it tells it.
        frozen_seconds: how long the guest stood still for it; 0: it was not quiesced.
    """

    snapshot: T
    frozen_seconds: float

    @property
    def quiesced(self) -> bool:
        """Whether the guest was frozen."""
        return self.frozen_seconds > 0


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
    take: Callable[[Guest | None], T],
    call: Call,
    *,
    quiesce: bool = False,
    window: float = DEFAULT_WINDOW,
) -> VolumeCut[T]:
    """Take a snapshot of one volume of a VM by its storage.

    Args:
        take: takes it, such as `VolumeSnapshots.take` or `pool.snapshots.create`; it is given the guest to
            freeze, or None.

    Raises:
        Unsupported: it cannot be quiesced as asked; nothing was done.
        StorageError: see `guards.check_act`, and the storage's own.
    """
    check_act(records, machine.vm, Act.SNAPSHOT_VOLUME)
    guest = _guest(machine, volume, call, window) if quiesce else None
    made = take(guest)
    return VolumeCut(snapshot=made, frozen_seconds=guest.seconds if guest is not None else 0.0)


def snapshot_in_chain(
    records: Records,
    machine: Machine,
    site: kvm.Site,
    place: kvm.VolumePlace,
    snapshot: SnapshotId,
    call: Call,
    *,
    quiesce: bool = False,
) -> VolumeCut[Ref]:
    """Take a snapshot of one volume of a VM by its hypervisor, as a full or a delta (`kvm.take`).

    Raises:
        Unsupported: the hypervisor has no backups, or freezes no guests; nothing was done.
        StorageError: see `guards.check_act` and `kvm.take`.
    """
    check_act(records, machine.vm, Act.SNAPSHOT_VOLUME)
    machine.hypervisor.require(Backups)
    if quiesce:
        _check_freezes(machine)
    ref = kvm.take(site, place, snapshot, call, quiesce=quiesce)
    with site.catalog.transaction() as session:
        return VolumeCut(snapshot=ref, frozen_seconds=snapshot_of(session, snapshot).frozen_seconds)


def _guest(machine: Machine, volume: VmVolume, call: Call, window: float) -> VmGuest | None:
    volume.pool.require(QuiescedSnapshots)
    if machine.hypervisor.vm_state(machine.vm, step(call)) is not VmState.RUNNING:
        return None
    _check_freezes(machine)
    return VmGuest(machine.hypervisor, machine.vm, window)


def _check_freezes(machine: Machine) -> None:
    if not family_of(machine.family).freezes:
        raise Unsupported(f"{machine.family} freezes no guests: VM {machine.vm} cannot be quiesced")
