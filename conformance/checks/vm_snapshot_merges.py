"""Disk-only snapshots as files: overlays merged away again.

    a   what a snapshot keeps       suite's blocks of generation 1
    b   written above it                                2, from the fifth block on
    c   written above that                              3, from the ninth block on

An image whose bytes are right although the one below it is gone does not stand on it any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...core.spi import Overlays
from ...transfer_objects.ids import VmId
from ..host_lab import HostLab, one_instant
from ..host_objects import TestObject
from ..lab import must
from ..model import Tier
from ..registry import check
from ._images import add_overlays, must_write_to, overlays_of, switch_to, written_by_guest

HYPERVISOR = ("hypervisor",)
_WRITES = 8  # to each overlay: a merge that loses them is seen, also if the guest goes on from what is left


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chain:
    """A disk of the stopped VM with two overlays: a <- b <- c."""

    device: str
    a: TestObject
    b: TestObject
    c: TestObject


def _chain(lab: HostLab) -> _Chain:
    vm = lab.place.stopped_vm
    ((device, a),) = lab.attached(vm, 1).items()
    b = add_overlays(lab, vm, {device: a})[device]
    b.write(2, after=4)
    c = add_overlays(lab, vm, {device: b})[device]
    c.write(3, after=8)
    return _Chain(device=device, a=a, b=b, c=c)


def _merge(
    lab: HostLab,
    vm: VmId,
    device: str,
    top: TestObject,
    base: TestObject,
    dependents: Sequence[TestObject] = (),
) -> None:
    overlays_of(lab).merge_image(
        vm,
        device,
        top.location,
        base.location,
        lab.call(),
        dependents=[one.location for one in dependents],
    )


@check(
    "vmsnap.merge_guest_goes_on",
    rule="merge.goes-on",
    kinds=HYPERVISOR,
    needs=(Overlays,),
    field_bug="twilligon/backup-vm#23, dguerri/LibVirtKvm-scripts#42: merges that never came to their pivot",
)
def check_merge_guest_goes_on(lab: HostLab) -> None:
    """Merged under a running guest, each disk has all that the guest wrote, and the guest writes to it."""
    vm, disks = lab.place.vm, written_by_guest(lab, 2)
    above = add_overlays(lab, vm, disks)
    for device in list(disks) * _WRITES:
        must(lab.guest_writes(above[device]), f"the guest does not write to the overlay of {device}")
    before = _at_rest(lab, above)
    for device, thing in disks.items():
        _merge(lab, vm, device, above[device], thing)
        must(lab.guest_writes(thing), "the guest does not write to the image that was merged into")
    # Soon: a guest that has written everything anew hides what a merge lost.
    after = _at_rest(lab, disks)
    must(
        after >= before,
        f"the guest had written block {before}, and after the merge block {after} is the last",
    )
    for thing in disks.values():
        thing.judge(1)
    must_write_to(lab, vm, disks)


def _at_rest(lab: HostLab, disks: Mapping[str, TestObject]) -> int:
    """Return the newest generation on all disks, which must show one instant."""
    lab.freeze()
    newest = one_instant(list(disks.values()))
    lab.driver.thaw(lab.place.vm, lab.call())
    return newest


@check(
    "vmsnap.merge_keeps_bytes",
    rule="merge.bytes",
    kinds=HYPERVISOR,
    needs=(Overlays,),
    field_bug="apache/cloudstack#3193: qcow2 images that the deletion of a snapshot destroyed",
)
def check_merge_keeps_bytes(lab: HostLab) -> None:
    """A merge of the middle, then of the top, keeps every byte that the image above it and the VM have."""
    chain, vm = _chain(lab), lab.place.stopped_vm
    _merge(lab, vm, chain.device, chain.b, chain.a)
    chain.b.path.unlink()
    chain.a.judge(1, 2, 2)
    chain.c.judge(1, 2, 3)
    _merge(lab, vm, chain.device, chain.c, chain.a)
    chain.c.path.unlink()
    chain.a.judge(1, 2, 3)
    must_write_to(lab, vm, {chain.device: chain.a})


@check(
    "vmsnap.merge_repeat_noop",
    rule="merge.repeat",
    kinds=HYPERVISOR,
    needs=(Overlays,),
    tier=Tier.STANDARD,
    field_bug="lxc/incus#3188: each repeat of a deletion shortened the chain once more",
)
def check_merge_repeat_noop(lab: HostLab) -> None:
    """Merging what was merged already succeeds and changes nothing, whether the top is there or not."""
    vm = lab.place.stopped_vm
    ((device, base),) = lab.attached(vm, 1).items()
    top = add_overlays(lab, vm, {device: base})[device]
    top.write(2)
    _merge(lab, vm, device, top, base)
    base.write(3)
    _merge(lab, vm, device, top, base)
    base.judge(3)
    top.path.unlink()
    _merge(lab, vm, device, top, base)
    base.judge(3)


@check(
    "vmsnap.merge_dependents_keep_bytes",
    rule="merge.dependents",
    kinds=HYPERVISOR,
    needs=(Overlays,),
    tier=Tier.STANDARD,
    field_bug="dguerri/LibVirtKvm-scripts#41: two chains with one backing file",
)
def check_merge_dependents_keep_bytes(lab: HostLab) -> None:
    """An image that a revert left on a merged one keeps its bytes, and can be gone back to.

    a <- b <- (c, left by a revert to b)          a' <- (c)
            ^- the VM                    becomes    ^- the VM
    """
    chain, vm = _chain(lab), lab.place.stopped_vm
    present = switch_to(lab, {chain.device: chain.b})[chain.device]
    _merge(lab, vm, chain.device, chain.b, chain.a, [chain.c])
    chain.b.path.unlink()
    chain.a.judge(1, 2, 2)
    present.judge(1, 2, 2)
    chain.c.judge(1, 2, 3)
    switch_to(lab, {chain.device: chain.c})[chain.device].judge(1, 2, 3)


@check(
    "vmsnap.merge_side_branch",
    rule="merge.side",
    kinds=HYPERVISOR,
    needs=(Overlays,),
    tier=Tier.STANDARD,
    field_bug="lxc/incus#3186: a merge of an image that the present chain does not have",
)
def check_merge_side_branch(lab: HostLab) -> None:
    """What a revert left beside the VM's chain can be merged, and the VM's own images stay as they are.

    a <- (b <- c, left by a revert to a)          a <- (b')
      ^- the VM                          becomes    ^- the VM
    """
    chain, vm = _chain(lab), lab.place.stopped_vm
    present = switch_to(lab, {chain.device: chain.a})[chain.device]
    _merge(lab, vm, chain.device, chain.c, chain.b)
    chain.c.path.unlink()
    chain.b.judge(1, 2, 3)
    chain.a.judge(1)
    present.judge(1)
    switch_to(lab, {chain.device: chain.b})[chain.device].judge(1, 2, 3)
