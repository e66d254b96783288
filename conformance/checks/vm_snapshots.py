"""Freezing guests, and snapshots of whole VMs: one instant, all disks or none."""

from __future__ import annotations

from ...core.spi import GuestState, NotFound
from ..host_lab import HostLab, one_instant
from ..lab import must, refused
from ..model import Tier
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
    "vmsnap.create_twice_same",
    rule="vmsnap.same-id",
    kinds=HYPERVISOR,
    field_bug="kubernetes-sigs/vsphere-csi-driver#2507: a lost reply and a retry made a second object",
)
def check_create_twice_same(lab: HostLab) -> None:
    """Creating a snapshot again succeeds, and leaves the first cut as it is."""
    vm = lab.place.stopped_vm
    disks = lab.disks(vm, 2)
    snapshot = lab.vm_snapshot(vm, memory=False)
    for disk in disks:
        disk.write(2)
    lab.vm_snapshot(vm, snapshot, memory=False)
    lab.revert(vm, snapshot)
    for disk in disks:
        disk.judge(1)


@check(
    "vmsnap.revert_all_disks",
    rule="vmsnap.revert-all",
    kinds=HYPERVISOR,
    field_bug="xapi-project/xen-api#2190, apache/cloudstack#4356: revert of several disks, revert of nothing",
)
def check_revert_all_disks(lab: HostLab) -> None:
    """Revert brings each byte of each disk back, as often as it is asked to."""
    vm = lab.place.stopped_vm
    disks = lab.disks(vm, 3)
    snapshot = lab.vm_snapshot(vm, memory=False)
    for generation in (2, 3):
        for disk in disks:
            disk.write(generation)
        lab.revert(vm, snapshot)
        for disk in disks:
            disk.judge(1)


@check(
    "vmsnap.delete_one_of_three",
    rule="vmsnap.delete-keeps",
    kinds=HYPERVISOR,
    tier=Tier.STANDARD,
    field_bug="vmware/pyvmomi#878, apache/cloudstack#9446: deleting one snapshot took others with it",
)
def check_delete_one_of_three(lab: HostLab) -> None:
    """Deleting the middle one of three keeps the disks and the other two; it itself is gone."""
    vm = lab.place.stopped_vm
    disks = lab.disks(vm, 2)
    taken = {}
    for generation in (1, 2, 3):
        for disk in disks:
            disk.write(generation)
        taken[generation] = lab.vm_snapshot(vm, memory=False)
    lab.delete_vm_snapshot(vm, taken[2])
    for disk in disks:
        disk.judge(3)
    for generation in (1, 3):
        lab.revert(vm, taken[generation])
        for disk in disks:
            disk.judge(generation)
    with refused(NotFound):
        lab.revert(vm, taken[2])


@check(
    "vmsnap.delete_missing_ok",
    rule="any.missing-ok",
    kinds=HYPERVISOR,
    field_bug="apache/cloudstack#11673: a snapshot that was never made could not be deleted",
)
def check_delete_missing_ok(lab: HostLab) -> None:
    """Deleting a snapshot again succeeds."""
    vm = lab.place.stopped_vm
    lab.disks(vm, 1)
    snapshot = lab.vm_snapshot(vm, memory=False)
    for _ in range(2):
        lab.delete_vm_snapshot(vm, snapshot)


@check(
    "vmsnap.multi_disk_one_instant",
    rule="vmsnap.one-instant",
    kinds=HYPERVISOR,
    tier=Tier.STANDARD,
    field_bug="Corsinvest/cv4pve-barc#15: minutes between the snapshots of one VM's disks",
)
def check_multi_disk_one_instant(lab: HostLab) -> None:
    """A snapshot of a VM that writes to two disks all the time shows both at one instant.

    The guest numbers its blocks, and each disk gets every second one. A disk that is older than the
    other lacks blocks that must have been there before. A database with its log on one disk and its
    tables on the other does not come up from such a snapshot.
    """
    vm = lab.place.vm
    disks = lab.disks(vm, 2)
    for disk in disks:
        must(lab.guest_writes(disk), "the guest does not write to each of its disks")
    snapshot = lab.vm_snapshot(vm, memory=True)
    lab.revert(vm, snapshot)
    lab.freeze()  # at once: the guest, running again, writes over what tells
    one_instant(disks)


@check(
    "vmsnap.snapshot_keeps_freeze",
    rule="freeze.still",
    kinds=HYPERVISOR,
    field_bug="deckhouse/virtualization#561: when may the guest of several snapshots be thawed?",
)
def check_snapshot_keeps_freeze(lab: HostLab) -> None:
    """A snapshot of a frozen guest succeeds, holds its frozen bytes, and leaves the thaw to who froze it."""
    vm = lab.place.vm
    disks = lab.disks(vm, 2)
    for disk in disks:
        must(lab.guest_writes(disk), "the guest does not write to each of its disks")
    lab.freeze()
    before = one_instant(disks)
    lab.vm_snapshot(vm, memory=True)
    must(lab.guest_state() is GuestState.FROZEN, "the snapshot has thawed a guest that the caller froze")
    must(one_instant(disks) == before, "the guest has written during the snapshot, though it was frozen")
