"""The defects of the simulated hypervisor, and the checks that find them.

The bugs of the field behind them stand in `simulators/hypervisor/defects.py`. `unavailable` is no mutant:
a cluster that says 503 for a while is a fault that every driver has to live with.
"""

from __future__ import annotations

from catalogue import Mutant

BACKEND = "hypervisor"

# defect -> checks that find it, words of a verdict, the public bug
FOUND: dict[str, tuple[tuple[str, ...], str, str]] = {
    "introduce_wrong_object": (("host.introduce_then_use",), "decoys", "the old LUN behind a reused number"),
    "introduce_wrong_size": (
        ("host.introduce_then_use",),
        "of 524288 bytes",
        "a multipath map whose paths have different sizes",
    ),
    "introduce_unverified": (
        (
            "host.introduce_wrong_size_detected",
            "host.introduce_wrong_lun_detected",
            "host.introduce_missing_refused",
        ),
        "expected DataLoss, but the call succeeded",
        "CVE-2023-2088",
    ),
    "introduce_again_moves": (
        ("host.introduce_twice_noop",),
        "the second introduce answers",
        "an object that is there already is introduced a second time",
    ),
    "introduce_again_replaces": (
        ("host.introduce_other_refused",),
        "expected Conflict, but the call succeeded",
        "a new LUN slips under the device of an old one",
    ),
    "forget_deletes_data": (
        ("host.forget_never_deletes_data",),
        "is no longer there",
        "taking a pool out of a system deletes what is on it",
    ),
    "forget_leaves_device": (
        ("host.forget_then_absent",),
        "still has a device",
        "cloudstack#1600: an SR stayed attached on XenServer",
    ),
    "forget_missing_fails": (
        ("host.forget_unknown_ok",),
        "is not known to h1",
        "cloudstack#6739: nothing was left to take away, and the driver threw",
    ),
    "forget_in_use_allowed": (
        ("host.forget_in_use_refused",),
        "expected InUse, but the call succeeded",
        "a disk goes away before its VM has let go",
    ),
    "attach_again_moves": (
        ("host.attach_twice_same",),
        "and after a repeat as",
        "the same disk is attached twice to one VM",
    ),
    "detach_returns_early": (
        ("host.detach_lets_go",),
        "still writes to the disk after detach",
        "detach is asynchronous, and answers before it is done",
    ),
    "detach_missing_fails": (
        ("host.detach_missing_ok",),
        "has no disk",
        "after a detach that was slow each further one is an error",
    ),
    "freeze_says_ok_does_nothing": (
        ("vmsnap.freeze_stops_writes",),
        "the guest says that it is thawed",
        "an error of the guest agent is taken for a freeze",
    ),
    "freeze_never_ends": (
        ("vmsnap.freeze_timeout_thaws", "vmsnap.guest_state_is_truth"),
        "the guest still does not write",
        "a freeze that nobody ends: the guest waits for ever",
    ),
    "thaw_ignored": (
        ("vmsnap.thaw_ends_freeze",),
        "says that it is frozen",
        "the thaw never runs in the guest, which stays frozen",
    ),
    "thaw_unfrozen_fails": (
        ("vmsnap.thaw_unfrozen_ok",),
        "fsfreeze is limited up to 10 seconds",
        "a thaw of a guest that thawed by itself is an error",
    ),
    "guest_state_remembered": (
        ("vmsnap.guest_state_is_truth",),
        "a guest that writes is said to be frozen",
        "the last command's answer is taken for the guest's state",
    ),
    "agent_timeout": (
        ("vmsnap.freeze_stops_writes",),
        "did not answer in time",
        "a freeze reports a failure, and the guest is frozen",
    ),
    "snapshot_hangs": (
        ("vmsnap.create_twice_same",),
        "the call's deadline has passed",
        "a VM snapshot that does not come back",
    ),
    "snapshot_retaken": (
        ("vmsnap.create_twice_same",),
        "newer than the expected 1",
        "vsphere-csi#2507 class: a retry makes it again",
    ),
    "snapshot_without_cut": (
        ("vmsnap.multi_disk_one_instant",),
        "do not show one instant",
        "the disks of a VM are copied one after another",
    ),
    "snapshot_thaws": (
        ("vmsnap.snapshot_keeps_freeze",),
        "has thawed a guest that the caller froze",
        "a snapshot thaws a guest that its caller froze",
    ),
    "two_current_snapshots": (
        ("vmsnap.delete_one_of_three",),
        "2 current snapshots",
        "two snapshots of one VM are said to be the current one",
    ),
    "revert_partial": (
        ("vmsnap.revert_all_disks",),
        "newer than the expected 1",
        "a revert brings back some of the disks only",
    ),
    "revert_does_nothing": (
        ("vmsnap.revert_all_disks",),
        "newer than the expected 1",
        "cloudstack#4356: a revert silently does nothing",
    ),
    "snapshot_delete_takes_children": (
        ("vmsnap.delete_one_of_three",),
        "there is no snapshot",
        "cloudstack#9446 class: deleting one snapshot takes others along",
    ),
    "snapshot_delete_missing_fails": (
        ("vmsnap.delete_missing_ok",),
        "has no snapshot",
        "a snapshot that is gone cannot be deleted, nor then its VM",
    ),
}
_COUNTED = {"agent_timeout": "agent_timeout=1"}  # switches that take a number of requests

MUTANTS = tuple(
    Mutant(
        id=f"{BACKEND}.{defect}",
        backend=BACKEND,
        killed_by=checks,
        words=words,
        field_bug=bug,
        defect=_COUNTED.get(defect, defect),
    )
    for defect, (checks, words, bug) in FOUND.items()
)
