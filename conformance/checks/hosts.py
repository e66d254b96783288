"""Objects on a hypervisor's host: introduce verifies, forget never deletes, detach lets go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ...core.spi import Conflict, DataLoss, FileLocation, InUse, NotFound
from ..host_lab import HostLab
from ..host_objects import OBJECT_SIZE, TestObject
from ..lab import must, refused
from ..model import Tier
from ..registry import check

HYPERVISOR = ("hypervisor",)


@check(
    "host.introduce_then_use",
    rule="attach.same-bytes",
    kinds=HYPERVISOR,
    field_bug="kubernetes/kubernetes#59946: the device of an old LUN was mounted as the new volume",
)
def check_introduce_then_use(lab: HostLab) -> None:
    """An introduced object can be attached to a running VM, and what its guest writes lands in it.

    The suite looks at the object itself, not at what the hypervisor says of it. "The guest's writes do
    not reach the object": the VM has another disk than the one that was introduced.
    """
    thing = lab.object()
    known = lab.introduce(thing)
    must(known.path, "the object has no path on the host")
    must((known.object_id, known.host) == (thing.id, lab.place.host), f"introduced was {known}")
    must(lab.attach(lab.place.vm, known), "the attached disk has no device name")
    must(lab.guest_writes(thing), f"the guest's writes do not reach the object {thing.path}")
    thing.judge(1)


@check(
    "host.introduce_twice_noop",
    rule="intro.twice",
    kinds=HYPERVISOR,
    field_bug="xapi-project/xen-api#1004: SR.introduce did not notice that the SR was there",
)
def check_introduce_twice_noop(lab: HostLab) -> None:
    """Introducing the same object again gives the same answer, also while a VM uses it."""
    thing = lab.object()
    first = lab.introduce(thing)
    second = lab.introduce(thing)
    must(second == first, f"the second introduce answers {second}, the first {first}")
    lab.attach(lab.place.stopped_vm, first)
    third = lab.introduce(thing)
    must(third == first, f"with the object attached, introduce answers {third}, before {first}")


@check(
    "host.introduce_other_refused",
    rule="intro.other",
    kinds=HYPERVISOR,
    field_bug="kubernetes/kubernetes#90982: a new LUN slipped under the multipath device of an old one",
)
def check_introduce_other_refused(lab: HostLab) -> None:
    """Another object under an id that the host knows is a conflict, and the first stays what it is."""
    first, other = lab.object(), lab.object()
    known = lab.introduce(first)
    with refused(Conflict):
        lab.introduce(first, location=other.location, identity=other.identity)
    again = lab.introduce(first)
    must(again == known, f"after the conflict the host knows it as {again}, before {known}")


def _left_no_trace(lab: HostLab, thing: TestObject) -> None:
    """The id is free: nothing of the refused introduction is in the way of the true one."""
    lab.attach(lab.place.stopped_vm, lab.introduce(thing))


@check(
    "host.introduce_wrong_size_detected",
    rule="intro.verified",
    kinds=HYPERVISOR,
    field_bug="kubernetes-csi/csi-lib-iscsi#29: multipath maps whose paths have different sizes",
)
def check_introduce_wrong_size_detected(lab: HostLab) -> None:
    """An object of another size than was told is refused as data loss, and leaves no trace.

    A host with a stale size shows a guest the end of its disk too early, or lets it write past it.
    """
    thing = lab.object()
    for size in (OBJECT_SIZE * 2, OBJECT_SIZE // 2):
        with refused(DataLoss):
            lab.introduce(thing, size=size)
    _left_no_trace(lab, thing)


@check(
    "host.introduce_wrong_lun_detected",
    rule="intro.verified",
    kinds=HYPERVISOR,
    field_bug="CVE-2023-2088: a device that was found by its path was another tenant's volume",
)
def check_introduce_wrong_lun_detected(lab: HostLab) -> None:
    """A path that leads to another object than was told is refused as data loss, and leaves no trace.

    The path of the introduction is a link that has come to point elsewhere, as a LUN number does that
    was given anew: the identity decides, never the path alone.
    """
    wanted, other = lab.object(), lab.object()
    link = lab.link_to(other)
    with refused(DataLoss):
        lab.introduce(wanted, location=FileLocation(path=link, format=wanted.format))
    _left_no_trace(lab, wanted)


@check(
    "host.introduce_missing_refused",
    rule="intro.missing",
    kinds=HYPERVISOR,
    field_bug="dell/csm#548: no device ever appeared for the WWN that the host was told",
)
def check_introduce_missing_refused(lab: HostLab) -> None:
    """An object that is not there is not found, and leaves no trace."""
    thing = lab.object()
    nowhere = FileLocation(path=Path(f"{thing.path}.nowhere"), format=thing.format)
    with refused(NotFound):
        lab.introduce(thing, location=nowhere)
    _left_no_trace(lab, thing)


@check(
    "host.forget_then_absent",
    rule="forget.no-trace",
    kinds=HYPERVISOR,
    field_bug="apache/cloudstack#1600: the SR stayed attached on XenServer after its LUN was removed",
)
def check_forget_then_absent(lab: HostLab) -> None:
    """A forgotten object cannot be attached any more, and its id is free for another object."""
    thing, other = lab.object(), lab.object()
    known = lab.introduce(thing)
    lab.forget(thing)
    with refused(NotFound):
        lab.attach(lab.place.stopped_vm, known)
    lab.introduce(thing, location=other.location, identity=other.identity)


@check(
    "host.forget_never_deletes_data",
    rule="forget.data",
    kinds=HYPERVISOR,
    field_bug="rockstor/rockstor-core#1577: taking a pool out of the system deleted what was on it",
)
def check_forget_never_deletes_data(lab: HostLab) -> None:
    """Forgetting keeps every byte: the object is there, is whole, and can be introduced again."""
    thing = lab.object()
    for _ in range(2):
        lab.attach(lab.place.stopped_vm, known := lab.introduce(thing))
        lab.detach(lab.place.stopped_vm, known)
        lab.forget(thing)
        thing.judge(1)


@check(
    "host.forget_unknown_ok",
    rule="any.missing-ok",
    kinds=HYPERVISOR,
    field_bug="apache/cloudstack#6739: a VM could not be deleted where nothing was left to revoke",
)
def check_forget_unknown_ok(lab: HostLab) -> None:
    """Forgetting again, or what the host never knew, succeeds."""
    thing, never = lab.object(), lab.object()
    lab.introduce(thing)
    for _ in range(2):
        lab.forget(thing)
    lab.forget(never)


@check(
    "host.forget_in_use_refused",
    rule="forget.in-use",
    kinds=HYPERVISOR,
    field_bug="ironcore-dev/libvirt-provider#145: a disk's file went before its VM had let go",
)
def check_forget_in_use_refused(lab: HostLab) -> None:
    """An object that a VM has as a disk is not forgotten, whether the VM runs or not."""
    for vm in (lab.place.stopped_vm, lab.place.vm):
        thing = lab.object()
        known = lab.introduce(thing)
        lab.attach(vm, known)
        with refused(InUse):
            lab.forget(thing)
        lab.detach(vm, known)
        lab.forget(thing)
        thing.judge(1)


@check(
    "host.attach_twice_same",
    rule="attach.twice",
    kinds=HYPERVISOR,
    field_bug="QubesOS/qubes-issues#950: the same disk twice in one VM, under two names",
)
def check_attach_twice_same(lab: HostLab) -> None:
    """Attaching again returns the same device."""
    for vm in (lab.place.stopped_vm, lab.place.vm):
        known = lab.introduce(lab.object())
        first, second = lab.attach(vm, known), lab.attach(vm, known)
        must(second == first, f"VM {vm} has the disk as {first!r}, and after a repeat as {second!r}")


@check(
    "host.attach_unknown_refused",
    rule="attach.unknown",
    kinds=HYPERVISOR,
    field_bug="CVE-2023-2088: a device that was given up led to the next tenant's volume",
)
def check_attach_unknown_refused(lab: HostLab) -> None:
    """An object that the host was told to forget, or was never told of, cannot be attached to any VM."""
    thing, never = lab.object(), lab.object()
    known = lab.introduce(thing)
    lab.forget(thing)
    for vm in (lab.place.stopped_vm, lab.place.vm):
        for unknown in (known, replace(known, object_id=never.id)):
            with refused(NotFound):
                lab.attach(vm, unknown)


@check(
    "host.detach_lets_go",
    rule="detach.gone",
    kinds=HYPERVISOR,
    tier=Tier.STANDARD,
    field_bug="QubesOS/qubes-issues#5113, ironcore-dev/libvirt-provider#114: detach returned too early",
)
def check_detach_lets_go(lab: HostLab) -> None:
    """When detach of a running VM's disk has returned, its guest writes to it no more.

    A second disk shows that the guest goes on meanwhile. libvirt's detach only asks the guest; who does
    not wait for the answer gives a volume to the next VM while the first still writes to it.
    """
    leaving, staying = lab.object(), lab.object()
    known = lab.introduce(leaving)
    lab.attach(lab.place.vm, known)
    lab.attach(lab.place.vm, lab.introduce(staying))
    must(lab.guest_writes(leaving), "the guest does not write to the attached disk")
    lab.detach(lab.place.vm, known)
    must(lab.guest_rests(leaving), "the guest still writes to the disk after detach returned")
    must(lab.guest_writes(staying), "the guest no longer writes to the disk that stayed")


@check(
    "host.detach_missing_ok",
    rule="any.missing-ok",
    kinds=HYPERVISOR,
    field_bug="apache/cloudstack#6508: after a slow detach each further one failed",
)
def check_detach_missing_ok(lab: HostLab) -> None:
    """Detaching again, or what the VM never had, succeeds."""
    for vm in (lab.place.stopped_vm, lab.place.vm):
        known = lab.introduce(lab.object())
        lab.detach(vm, known)
        lab.attach(vm, known)
        for _ in range(2):
            lab.detach(vm, known)
