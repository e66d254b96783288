"""VMs as a whole: their power, the disks that are told, the size that a guest sees, another host."""

from __future__ import annotations

from typing import cast

from ...core.spi import (
    DeadlineExceeded,
    InvalidArgument,
    MigratesVms,
    PowersVms,
    ResizesDisks,
    ShowsDisks,
    VmState,
)
from ..host_lab import HostLab
from ..host_objects import OBJECT_SIZE, TestObject
from ..lab import failing, must, not_applicable, refused
from ..model import Tier
from ..registry import check

HYPERVISOR = ("hypervisor",)
_SHORT = 2.0  # seconds that a guest is given to shut down, which it need not do


def _power(lab: HostLab) -> PowersVms:
    return cast("PowersVms", lab.driver)


def _resizes(lab: HostLab) -> ResizesDisks:
    return cast("ResizesDisks", lab.driver)


def _is(lab: HostLab, state: VmState, after: str) -> None:
    found = lab.driver.vm_state(lab.place.stopped_vm, lab.call())
    must(found is state, f"after {after} the VM is {found}, not {state}")


@check(
    "host.power_start_twice",
    rule="power.start-twice",
    kinds=HYPERVISOR,
    needs=(PowersVms,),
    field_bug="canonical/multipass#993: start failed since the domain was already running",
)
def check_power_start_twice(lab: HostLab) -> None:
    """A VM that was started runs, and starting it again is fine.

    Who starts a VM and dies before the answer starts it again.
    """
    lab.disks(lab.place.stopped_vm, 1)
    for _ in range(2):
        lab.start()
        _is(lab, VmState.RUNNING, "start_vm")


@check(
    "host.power_stop_twice",
    rule="power.stop-twice",
    kinds=HYPERVISOR,
    needs=(PowersVms,),
    field_bug="hashicorp/packer#1300: stopping a VM that was off failed",
)
def check_power_stop_twice(lab: HostLab) -> None:
    """A VM whose power was cut is off, stopping it again in either way is fine, and its disks are whole."""
    (disk,) = lab.disks(lab.place.stopped_vm, 1)
    lab.start()
    for force in (True, True, False):
        _power(lab).stop_vm(lab.place.stopped_vm, lab.call(), force=force)
        _is(lab, VmState.STOPPED, "stop_vm")
    disk.judge(1)


@check(
    "host.power_stop_asked",
    rule="power.stop-asked",
    kinds=HYPERVISOR,
    needs=(PowersVms,),
    tier=Tier.STANDARD,
    field_bug="ScaleComputing/HyperCoreAnsibleCollection#170, #293: a shutdown that the guest had not done",
)
def check_power_stop_asked(lab: HostLab) -> None:
    """A guest that is asked to shut down has done so when the call returns, or it runs on.

    "The VM is running" after a stop that succeeded: its volumes go to another host while it still writes.
    """
    lab.disks(lab.place.stopped_vm, 1)
    lab.start()
    try:
        _power(lab).stop_vm(lab.place.stopped_vm, lab.call(_SHORT))
    except DeadlineExceeded:
        _is(lab, VmState.RUNNING, "a stop that ran out of time")
    else:
        _is(lab, VmState.STOPPED, "stop_vm")


@check(
    "host.disks_shown",
    rule="cap.vm-disks",
    kinds=HYPERVISOR,
    needs=(ShowsDisks,),
    field_bug="cbsd/cbsd#731, xcat2/xcat-core#1768: sizes of disks told wrong, or of another disk",
)
def check_disks_shown(lab: HostLab) -> None:
    """The disks of a VM, on or off, are told in the order of their devices with object, image and size.

    Snapshots and merges are aimed at a device by what is told here.
    """
    driver = cast("ShowsDisks", lab.driver)
    for vm in (lab.place.stopped_vm, lab.place.vm):
        attached = lab.attached(vm, 2)
        told = driver.vm_disks(vm, lab.call())
        ours = [disk for disk in told if disk.device in attached]
        must([disk.device for disk in ours] == list(attached), f"disks {list(attached)} of VM {vm}: {told}")
        for disk, thing in zip(ours, attached.values(), strict=True):
            right = (disk.object_id, disk.size) == (thing.id, thing.size) and thing.is_at(disk.location)
            must(right, f"{disk.device} of VM {vm} is told as {disk}")


@check(
    "host.resize_guest_sees",
    rule="resize.guest-sees",
    kinds=HYPERVISOR,
    needs=(ResizesDisks,),
    field_bug="kubevirt/kubevirt#5325: the image had grown, and the guest had not been told",
)
def check_resize_guest_sees(lab: HostLab) -> None:
    """A running guest writes to the new end of a disk that has grown; a stopped VM's disk grows as well.

    The guest's part is always the disk's last 256 KiB. "The guest does not write to the new end": the
    image has grown, and the guest was not told.
    """
    for vm in (lab.place.stopped_vm, lab.place.vm):
        ((device, thing),) = lab.attached(vm, 1).items()
        _resizes(lab).resize_disk(vm, device, 2 * OBJECT_SIZE, lab.call())
        grown = thing.grown(2 * OBJECT_SIZE)
        length = grown.length()
        must(length == grown.size, f"{device} of VM {vm} has {length} bytes, not the {grown.size} it grew to")
        grown.judge(1)
    must(lab.guest_writes(grown), "the guest does not write to the new end of its disk")


@check(
    "host.resize_shrink_refused",
    rule="resize.no-shrink",
    kinds=HYPERVISOR,
    needs=(ResizesDisks,),
    field_bug="projectbeskar/virtrigaud#216: a grow-only guard, for libvirt would have cut the disk",
)
def check_resize_shrink_refused(lab: HostLab) -> None:
    """A smaller size is an invalid argument, and the disk keeps its size, its bytes and its guest."""
    for vm in (lab.place.stopped_vm, lab.place.vm):
        ((device, thing),) = lab.attached(vm, 1).items()
        with refused(InvalidArgument):
            _resizes(lab).resize_disk(vm, device, OBJECT_SIZE // 2, lab.call())
        length = thing.length()
        must(length == OBJECT_SIZE, f"a shrink that was refused left {length} of {OBJECT_SIZE} bytes")
        thing.judge(1)
    must(lab.guest_writes(thing), "the guest no longer writes to the disk that was not to shrink")


def _known_on_both(lab: HostLab) -> TestObject:
    """Attach an object to the running VM that the second host knows as well."""
    if not lab.place.second_host:
        not_applicable("[hypervisor] names no second_host")
    thing = lab.object()
    lab.introduce(thing, host=lab.place.second_host)
    lab.attach(lab.place.vm, lab.introduce(thing))
    must(lab.guest_writes(thing), "the guest does not write before it is moved")
    return thing


@check(
    "host.migrate_there_and_back",
    rule="migrate.repeat",
    kinds=HYPERVISOR,
    needs=(MigratesVms,),
    tier=Tier.STANDARD,
    field_bug="kubernetes-sigs/vsphere-csi-driver#2507: a lost reply and a retry",
)
def check_migrate_there_and_back(lab: HostLab) -> None:
    """A VM that was moved runs, and its guest goes on with the same objects; moving it again is fine."""
    thing = _known_on_both(lab)
    for host in (lab.place.second_host, lab.place.host):
        for _ in range(2):
            cast("MigratesVms", lab.driver).migrate_vm(lab.place.vm, host, lab.call())
        must(lab.guest_writes(thing), f"the guest does not write after it was moved to {host}")
    thing.judge(1)


@check(
    "host.migrate_failure_runs_on",
    rule="migrate.runs-on",
    kinds=HYPERVISOR,
    needs=(MigratesVms,),
    tier=Tier.STANDARD,
    field_bug="xapi-project/xen-api#4144: a failed migration ended in a VM that was off",
)
def check_migrate_failure_runs_on(lab: HostLab) -> None:
    """A VM that cannot be moved, since the other host does not know its disk, runs on where it was."""
    thing = _known_on_both(lab)
    lab.forget(thing, lab.place.second_host)
    with failing():
        cast("MigratesVms", lab.driver).migrate_vm(lab.place.vm, lab.place.second_host, lab.call())
    must(lab.driver.vm_state(lab.place.vm, lab.call()) is VmState.RUNNING, "the VM that stayed does not run")
    must(lab.guest_writes(thing), "the guest of the VM that stayed does not write")
