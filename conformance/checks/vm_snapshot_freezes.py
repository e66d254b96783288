"""Freezing guests: it holds, it ends by itself, and whoever fails to freeze leaves a guest that runs."""

from __future__ import annotations

import time

from ...core.spi import GuestState, StorageError
from ..host_lab import HostLab
from ..lab import must
from ..model import Level, Tier
from ..registry import check

HYPERVISOR = ("hypervisor",)
_SHORT = 2.0  # seconds of a freeze that nobody ends
_GRACE = 2.0  # seconds that a call may be late


@check(
    "vmsnap.freeze_stops_writes",
    rule="freeze.still",
    kinds=HYPERVISOR,
    field_bug="apache/cloudstack#13020: the guest agent's error was taken for a freeze",
)
def check_freeze_stops_writes(lab: HostLab) -> None:
    """From freeze to thaw the guest says that it is frozen, and writes nothing; then it goes on.

    "The guest says that it is thawed": the driver took somebody's word for it, and the snapshot that
    follows is not the quiesced one that was asked for.
    """
    (disk,) = lab.disks(lab.place.vm, 1)
    must(lab.guest_writes(disk), "the guest does not write before it is frozen")
    lab.freeze()
    must(lab.guest_state() is GuestState.FROZEN, "freeze returned, but the guest says that it is thawed")
    must(lab.guest_rests(disk), "the guest writes although it is frozen")
    lab.driver.thaw(lab.place.vm, lab.call())
    must(lab.guest_writes(disk), "the guest does not go on after thaw")


@check(
    "vmsnap.freeze_timeout_thaws",
    rule="freeze.bounded",
    kinds=HYPERVISOR,
    tier=Tier.STANDARD,
    field_bug="oVirt/vdsm#160: a guest stayed frozen for 28,000 seconds; the limit was 480",
)
def check_freeze_timeout_thaws(lab: HostLab) -> None:
    """A freeze that nobody ends is over within its call's deadline, and the guest writes again."""
    (disk,) = lab.disks(lab.place.vm, 1)
    lab.freeze(_SHORT)
    frozen = disk.guest_part()
    thawed = lab.until(lambda: disk.guest_part() != frozen, _SHORT + _GRACE)
    must(thawed, f"{_SHORT + _GRACE:g} s after a freeze of {_SHORT:g} s the guest still does not write")


@check(
    "vmsnap.guest_state_is_truth",
    rule="guest.truth",
    kinds=HYPERVISOR,
    tier=Tier.STANDARD,
    field_bug="apache/cloudstack#3724: the answer of a freeze was taken for the state of the guest",
)
def check_guest_state_is_truth(lab: HostLab) -> None:
    """Once a guest has thawed by itself and writes, the driver says so."""
    (disk,) = lab.disks(lab.place.vm, 1)
    lab.freeze(_SHORT)
    must(lab.guest_state() is GuestState.FROZEN, "freeze returned, but the guest says that it is thawed")
    must(lab.guest_writes(disk), "the guest does not go on after its time limit")
    must(lab.guest_state() is GuestState.THAWED, "a guest that writes is said to be frozen")


@check(
    "vmsnap.thaw_ends_freeze",
    rule="thaw.goes-on",
    kinds=HYPERVISOR,
    field_bug="opnsense/plugins#4148: freeze ran in the guest, thaw never did",
)
def check_thaw_ends_freeze(lab: HostLab) -> None:
    """When thaw returns the guest says that it is thawed, long before its time limit."""
    (disk,) = lab.disks(lab.place.vm, 1)
    lab.freeze()
    lab.driver.thaw(lab.place.vm, lab.call())
    must(lab.guest_state() is GuestState.THAWED, "thaw returned, but the guest says that it is frozen")
    must(lab.guest_writes(disk), "the guest does not go on after thaw")


@check(
    "vmsnap.thaw_unfrozen_ok",
    rule="thaw.again",
    kinds=HYPERVISOR,
    field_bug='autotest/tp-qemu#1774: thaw failed with "fsfreeze is limited up to 10 seconds"',
)
def check_thaw_unfrozen_ok(lab: HostLab) -> None:
    """Thaw of a guest that is not frozen succeeds, the first time and again.

    Whoever cleans up cannot know whether the guest has thawed by itself meanwhile.
    """
    lab.freeze()
    for _ in range(3):
        lab.driver.thaw(lab.place.vm, lab.call())


@check(
    "vmsnap.failed_freeze_thaws",
    rule="freeze.fails-thawed",
    kinds=HYPERVISOR,
    tier=Tier.STANDARD,
    field_bug="vmware/open-vm-tools#27: a snapshot that failed after the freeze left the VM frozen",
)
def check_failed_freeze_thaws(lab: HostLab) -> None:
    """Whenever freeze fails, here for want of time, the guest is thawed and writes.

    Nobody thaws after a freeze that failed: the guest stands until its own limit.
    """
    (disk,) = lab.disks(lab.place.vm, 1)
    for seconds in (0.003, 0.03, None):
        try:
            lab.freeze(seconds)
        except StorageError:
            must(lab.guest_state() is GuestState.THAWED, "freeze has failed, and the guest is frozen")
        else:
            lab.driver.thaw(lab.place.vm, lab.call())
        must(lab.guest_writes(disk), "the guest does not write after a freeze that was over")


@check(
    "vmsnap.frozen_time",
    rule="freeze.bounded",
    kinds=HYPERVISOR,
    level=Level.MEASURE,
    tier=Tier.STANDARD,
)
def check_frozen_time(lab: HostLab) -> None:
    """How long the guest stands still for a quiesced snapshot with memory, and for the freeze alone."""
    vm = lab.place.vm
    lab.disks(vm, 2)
    for name, memory in (("freeze and thaw", False), ("freeze, snapshot and thaw", True)):
        began = time.monotonic()
        lab.freeze()
        if memory:
            lab.vm_snapshot(vm, memory=True)
        lab.driver.thaw(vm, lab.call())
        lab.notes.measure(name, 1000 * (time.monotonic() - began), "ms")
