"""Snapshots of whole VMs: one instant, all disks or none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from ...core.spi import GuestState, KeepsSnapshotMetadata, NotFound, VmSnapshotMetadata
from ...transfer_objects.ids import VmSnapshotId, new_id
from ..host_lab import HostLab, one_instant
from ..lab import failing, must, refused
from ..model import Tier
from ..registry import check

HYPERVISOR = ("hypervisor",)


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


@check(
    "vmsnap.revert_missing_refused",
    rule="vmsnap.missing",
    kinds=HYPERVISOR,
    field_bug="ansible/ansible#37906: a revert to a snapshot that was not there succeeded",
)
def check_revert_missing_refused(lab: HostLab) -> None:
    """Reverting to a snapshot that never was, or is deleted, is not found, and changes nothing."""
    vm = lab.place.stopped_vm
    disks = lab.disks(vm, 2)
    deleted = lab.vm_snapshot(vm, memory=False)
    for disk in disks:
        disk.write(2)
    lab.delete_vm_snapshot(vm, deleted)
    for missing in (deleted, VmSnapshotId(new_id(lab.prefix)[:64])):
        with refused(NotFound):
            lab.revert(vm, missing)
    for disk in disks:
        disk.judge(2)


@check(
    "vmsnap.partial_failure_rolls_back",
    rule="vmsnap.fails-clean",
    kinds=HYPERVISOR,
    tier=Tier.STANDARD,
    field_bug="apache/cloudstack#12949: disks kept their part of a VM snapshot that had failed",
)
def check_partial_failure_rolls_back(lab: HostLab) -> None:
    """Where one disk of four has no image the snapshot fails, and no disk keeps a part of it.

    The image comes back afterwards, and the same id is taken anew: what it reverts to then is told by
    each disk. "Older than the expected 2": a disk had kept its part of the snapshot that failed.
    """
    vm = lab.place.stopped_vm
    disks = lab.disks(vm, 4)
    snapshot = VmSnapshotId(new_id(lab.prefix)[:64])
    lost = disks[2].path
    away = lost.rename(f"{lost}.away")
    with failing():
        lab.vm_snapshot(vm, snapshot, memory=False)
    away.rename(lost)
    with refused(NotFound):
        lab.revert(vm, snapshot)
    for disk in disks:
        disk.write(2)
    lab.vm_snapshot(vm, snapshot, memory=False)
    for disk in disks:
        disk.write(3)
    lab.revert(vm, snapshot)
    for disk in disks:
        disk.judge(2)


def _register(lab: HostLab) -> KeepsSnapshotMetadata:
    return cast("KeepsSnapshotMetadata", lab.driver)


def _tree(known: Sequence[VmSnapshotMetadata]) -> list[tuple[VmSnapshotId, VmSnapshotId | None, bool]]:
    return [(one.snapshot, one.parent, one.current) for one in known]


@check(
    "vmsnap.metadata_comes_back",
    rule="metadata.data",
    kinds=HYPERVISOR,
    needs=(KeepsSnapshotMetadata,),
    field_bug="OpenNebula/one#5530, #4017: snapshots lost to a migration, or to a parent that was gone",
)
def check_metadata_comes_back(lab: HostLab) -> None:
    """What is known of snapshots can be taken out and given back, each twice; all of them still revert.

    It is taken out before a VM is stopped or moved. "there is no snapshot": the data went with it.
    """
    vm = lab.place.stopped_vm
    disks = lab.disks(vm, 2)
    taken = []
    for generation in (1, 2):
        for disk in disks:
            disk.write(generation)
        taken.append(lab.vm_snapshot(vm, memory=False))
    before = _register(lab).vm_snapshot_metadata(vm, lab.call())
    wanted = [(taken[0], None, False), (taken[1], taken[0], True)]
    must(_tree(before) == wanted, f"the register has {_tree(before)}, parents first it is {wanted}")
    for _ in range(2):
        _register(lab).drop_vm_snapshot_metadata(vm, lab.call())
        left = _register(lab).vm_snapshot_metadata(vm, lab.call())
        must(not left, f"the register that was emptied has {_tree(left)}")
    for _ in range(2):
        _register(lab).restore_vm_snapshot_metadata(vm, before, lab.call())
        after = _register(lab).vm_snapshot_metadata(vm, lab.call())
        must(_tree(after) == wanted, f"given back, the register has {_tree(after)}, before {wanted}")
    for generation, snapshot in enumerate(taken, 1):
        lab.revert(vm, snapshot)
        for disk in disks:
            disk.judge(generation)
