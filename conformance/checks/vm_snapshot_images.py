"""Disk-only snapshots as files: overlays put on, and switched to."""

from __future__ import annotations

from ...core.spi import GuestState, InUse, Overlays, PowersVms, StorageError, Unavailable
from ...transfer_objects.ids import VmId
from ..host_lab import HostLab, one_instant
from ..lab import failing, must, not_applicable, refused
from ..model import Tier
from ..registry import check
from ._images import Disks, add_overlays, must_write_to, overlays_of, places_of, switch_to, written_by_guest

HYPERVISOR = ("hypervisor",)


@check(
    "vmsnap.overlay_one_instant",
    rule="overlay.instant",
    kinds=HYPERVISOR,
    needs=(Overlays,),
    field_bug="Corsinvest/cv4pve-barc#15: minutes between the snapshots of one VM's disks",
)
def check_overlay_one_instant(lab: HostLab) -> None:
    """The images below new overlays show one instant and change no more; the guest writes on above them.

    "The guest still writes below": what was to be a snapshot goes on to change.
    """
    disks = written_by_guest(lab, 2)
    above = add_overlays(lab, lab.place.vm, disks)
    must(lab.guest_rests(*disks.values()), "the guest still writes below its overlays")
    one_instant(list(disks.values()))
    for device, thing in disks.items():
        thing.judge(1)
        must(lab.guest_writes(above[device]), f"the guest does not write to the overlay of {device}")


@check(
    "vmsnap.overlay_quiesced_thaws",
    rule="overlay.quiesce",
    kinds=HYPERVISOR,
    needs=(Overlays,),
    tier=Tier.STANDARD,
    field_bug="vmware/open-vm-tools#27: a quiesced snapshot failed, and the guest stayed frozen",
)
def check_overlay_quiesced_thaws(lab: HostLab) -> None:
    """After a quiesced overlay, and after one that failed, the guest is thawed and writes."""
    disks = written_by_guest(lab, 1)
    try:
        above = add_overlays(lab, lab.place.vm, disks, quiesce=True)
    except Unavailable as error:
        not_applicable(f"the driver cannot freeze guests: {error.message}")
    _goes_on(lab, above, "a quiesced overlay")
    nowhere = {device: lab.overlay(thing, reachable=False) for device, thing in above.items()}
    with failing():
        overlays_of(lab).add_overlays(lab.place.vm, places_of(nowhere), lab.call(), quiesce=True)
    _goes_on(lab, above, "a quiesced overlay that failed")


def _goes_on(lab: HostLab, disks: Disks, after: str) -> None:
    must(lab.guest_state() is GuestState.THAWED, f"{after} has left the guest frozen")
    for thing in disks.values():
        must(lab.guest_writes(thing), f"the guest does not write after {after}")


@check(
    "vmsnap.agent_missing_as_requested",
    rule="overlay.quiesce",
    kinds=HYPERVISOR,
    needs=(Overlays, PowersVms),
    tier=Tier.STANDARD,
    field_bug="kubevirt/kubevirt#14096: a snapshot did not tell that it had not been quiesced",
)
def check_agent_missing_as_requested(lab: HostLab) -> None:
    """Where no agent answers, a quiesced overlay is refused and nothing is made; an ordinary one is made."""
    vm = lab.place.stopped_vm
    disks = lab.attached(vm, 1)
    lab.start()
    _require_no_agent(lab, vm)
    above = {device: lab.overlay(thing) for device, thing in disks.items()}
    with refused(Unavailable):
        overlays_of(lab).add_overlays(vm, places_of(above), lab.call(), quiesce=True)
    _nothing_made(above)
    must_write_to(lab, vm, disks)
    overlays_of(lab).add_overlays(vm, places_of(above), lab.call())
    must_write_to(lab, vm, above)


def _require_no_agent(lab: HostLab, vm: VmId) -> None:
    try:
        lab.driver.freeze(vm, lab.call())
    except StorageError:
        return
    lab.driver.thaw(vm, lab.call())
    not_applicable(f"the guest of {vm} has an agent")


def _nothing_made(wanted: Disks) -> None:
    left = [str(thing.path) for thing in wanted.values() if thing.path.exists()]
    must(not left, f"a failure has left {left}")


@check(
    "vmsnap.overlay_repeat_noop",
    rule="overlay.repeat",
    kinds=HYPERVISOR,
    needs=(Overlays,),
    tier=Tier.STANDARD,
    field_bug="kubernetes-sigs/vsphere-csi-driver#2507: a lost reply and a retry made a second object",
)
def check_overlay_repeat_noop(lab: HostLab) -> None:
    """Adding overlays that are in place already succeeds, and they keep what was written to them."""
    vm = lab.place.stopped_vm
    disks = lab.attached(vm, 2)
    above = add_overlays(lab, vm, disks)
    for thing in above.values():
        thing.write(2)
    overlays_of(lab).add_overlays(vm, places_of(above), lab.call())
    must_write_to(lab, vm, above)
    for device, thing in disks.items():
        thing.judge(1)
        above[device].judge(2)


@check(
    "vmsnap.overlay_failure_leaves_nothing",
    rule="overlay.fails-clean",
    kinds=HYPERVISOR,
    needs=(Overlays,),
    tier=Tier.STANDARD,
    field_bug="kernel/hypeman#277: one of two failed, and what the other had made was left",
)
def check_overlay_failure_leaves_nothing(lab: HostLab) -> None:
    """Where the second of two overlays cannot be made the first is gone; the guest writes where it wrote."""
    vm, disks = lab.place.vm, written_by_guest(lab, 2)
    wanted = _second_nowhere(lab, disks)
    with failing():
        overlays_of(lab).add_overlays(vm, places_of(wanted), lab.call())
    _nothing_made(wanted)
    must_write_to(lab, vm, disks)
    for thing in disks.values():
        must(lab.guest_writes(thing), "the guest no longer writes where it wrote before the failure")


def _second_nowhere(lab: HostLab, disks: Disks) -> Disks:
    wanted = zip(disks.items(), (True, False), strict=True)
    return {device: lab.overlay(thing, reachable=there) for (device, thing), there in wanted}


@check(
    "vmsnap.switch_reverts_all",
    rule="switch.all",
    kinds=HYPERVISOR,
    needs=(Overlays,),
    field_bug="xapi-project/xen-api#2190: revert of a VM with several disks",
)
def check_switch_reverts_all(lab: HostLab) -> None:
    """Switched to overlays over what was kept, each disk shows that again; what was written since is kept."""
    vm = lab.place.stopped_vm
    disks = lab.attached(vm, 2)
    left = add_overlays(lab, vm, disks)
    for thing in left.values():
        thing.write(2)
    above = switch_to(lab, disks)
    must_write_to(lab, vm, above)
    for device, thing in disks.items():
        above[device].judge(1)
        left[device].judge(2)
        thing.judge(1)


@check(
    "vmsnap.switch_failure_leaves_nothing",
    rule="switch.all",
    kinds=HYPERVISOR,
    needs=(Overlays,),
    tier=Tier.STANDARD,
    field_bug="apache/cloudstack#14030: one disk was done, another failed, and the record fitted neither",
)
def check_switch_failure_leaves_nothing(lab: HostLab) -> None:
    """Where the second of two disks cannot be switched none is, and no new file is left."""
    vm = lab.place.stopped_vm
    disks = lab.attached(vm, 2)
    present = add_overlays(lab, vm, disks)
    wanted = _second_nowhere(lab, disks)
    with failing():
        overlays_of(lab).switch_images(vm, places_of(wanted), places_of(disks), lab.call())
    _nothing_made(wanted)
    must_write_to(lab, vm, present)


@check(
    "vmsnap.switch_repeat_noop",
    rule="switch.repeat",
    kinds=HYPERVISOR,
    needs=(Overlays,),
    tier=Tier.STANDARD,
    field_bug="kubernetes-sigs/vsphere-csi-driver#2507: a lost reply and a retry made a second object",
)
def check_switch_repeat_noop(lab: HostLab) -> None:
    """Switching again to the overlays that the disks are on succeeds, and they keep what was written."""
    vm = lab.place.stopped_vm
    disks = lab.attached(vm, 1)
    above = switch_to(lab, disks)
    for thing in above.values():
        thing.write(2)
    overlays_of(lab).switch_images(vm, places_of(above), places_of(disks), lab.call())
    for device, thing in disks.items():
        above[device].judge(2)
        thing.judge(1)


@check(
    "vmsnap.switch_running_refused",
    rule="switch.running",
    kinds=HYPERVISOR,
    needs=(Overlays,),
    tier=Tier.STANDARD,
    field_bug="cockpit-project/cockpit-machines#917: a disk that was switched underneath a running system",
)
def check_switch_running_refused(lab: HostLab) -> None:
    """The images of a running VM are in use: they are not switched, and its guest goes on."""
    disks = written_by_guest(lab, 1)
    wanted = {device: lab.overlay(thing) for device, thing in disks.items()}
    with refused(InUse):
        overlays_of(lab).switch_images(lab.place.vm, places_of(wanted), places_of(disks), lab.call())
    _nothing_made(wanted)
    must(
        all(map(lab.guest_writes, disks.values())),
        "the guest no longer writes after a switch that was refused",
    )
