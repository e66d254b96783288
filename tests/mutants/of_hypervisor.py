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
    "forget_keeps_object": (
        ("host.attach_unknown_refused",),
        "expected NotFound, but the call succeeded",
        "CVE-2023-2088: a device that was given up led to the next tenant's volume",
    ),
    "start_running_fails": (
        ("host.power_start_twice",),
        "is already running",
        "multipass#993: the domain was already running",
    ),
    "stop_stopped_fails": (
        ("host.power_stop_twice",),
        "is not powered on",
        "packer#1300: stopping a VM that was off failed",
    ),
    "stop_returns_early": (
        ("host.power_stop_asked",),
        "after stop_vm the VM is running",
        "HyperCoreAnsibleCollection#170: the VM was still shutting down",
    ),
    "disk_size_stale": (
        ("host.disks_shown",),
        "is told as",
        "cbsd#731: a list with wrong sizes",
    ),
    "resize_unseen": (
        ("host.resize_guest_sees",),
        "does not write to the new end",
        "kubevirt#5325: the guest had to be told by hand",
    ),
    "resize_shrinks": (
        ("host.resize_shrink_refused",),
        "expected InvalidArgument, but the call succeeded",
        "libvirt's blockResize shrinks without a word: virtrigaud#216 had to guard against it",
    ),
    "migrate_stops_guest": (
        ("host.migrate_there_and_back",),
        "does not write after it was moved",
        "cloud-hypervisor#2895: a VM that stayed paused after its migration",
    ),
    "migrate_again_fails": (
        ("host.migrate_there_and_back",),
        "already",
        "vsphere-csi#2507 class: a lost reply and a retry",
    ),
    "migrate_failure_stops": (
        ("host.migrate_failure_runs_on",),
        "the VM that stayed does not run",
        "xen-api#4144: a failed migration that ended in a VM that was off",
    ),
    "failed_freeze_stays": (
        ("vmsnap.failed_freeze_thaws",),
        "freeze has failed, and the guest is frozen",
        "open-vm-tools#27: what failed after the freeze left the VM frozen",
    ),
    "snapshot_failure_leaves_part": (
        ("vmsnap.partial_failure_rolls_back",),
        "expected NotFound",
        "cloudstack#12949: the snapshots of the first disks were left",
    ),
    "revert_missing_succeeds": (
        ("vmsnap.revert_missing_refused",),
        "expected NotFound, but the call succeeded",
        "ansible#37906: a revert to what was not there succeeded",
    ),
    "metadata_drop_deletes": (
        ("vmsnap.metadata_comes_back",),
        "NotFound",
        "OpenNebula#5530: a snapshot that was listed could neither be reverted to nor deleted",
    ),
    "metadata_loses_parents": (
        ("vmsnap.metadata_comes_back",),
        "given back, the register has",
        "OpenNebula#4017: a snapshot whose parent was gone",
    ),
    "overlay_without_cut": (
        ("vmsnap.overlay_one_instant",),
        "do not show one instant",
        "cv4pve-barc#15: minutes between the disks of one VM",
    ),
    "overlay_leaves_frozen": (
        ("vmsnap.overlay_quiesced_thaws",),
        "a quiesced overlay has left the guest frozen",
        "open-vm-tools#27: the VM stayed frozen",
    ),
    "overlay_quiesce_skipped": (
        ("vmsnap.agent_missing_as_requested",),
        "expected Unavailable, but the call succeeded",
        "kubevirt#14096: a snapshot did not tell that its quiesce had failed",
    ),
    "overlay_again_remakes": (
        ("vmsnap.overlay_repeat_noop", "vmsnap.switch_repeat_noop"),
        "older than the expected 2",
        "vsphere-csi#2507 class: a lost reply and a retry",
    ),
    "overlay_failure_leaves_files": (
        ("vmsnap.overlay_failure_leaves_nothing",),
        "a failure has left",
        "kernel/hypeman#277: an orphan of the leg that had ended well",
    ),
    "switch_first_only": (
        ("vmsnap.switch_reverts_all",),
        "of VM vm-2 is FileLocation",
        "xen-api#2190: reverting a VM with several disks",
    ),
    "switch_one_by_one": (
        ("vmsnap.switch_failure_leaves_nothing",),
        "a failure has left",
        "cloudstack#14030: one disk was done, and the whole told as failed",
    ),
    "switch_running_allowed": (
        ("vmsnap.switch_running_refused",),
        "expected InUse, but the call succeeded",
        "cockpit-machines#917: a disk that is exchanged underneath a running system",
    ),
    "merge_stops_guest": (
        ("vmsnap.merge_guest_goes_on",),
        "does not write to the image that was merged into",
        'backup-vm#23: "not ready for pivot"',
    ),
    "merge_loses_bytes": (
        ("vmsnap.merge_keeps_bytes", "vmsnap.merge_guest_goes_on"),
        "older than the expected 2",
        "cloudstack#3193: images that the deletion of a snapshot destroyed",
    ),
    "merge_again_copies": (
        ("vmsnap.merge_repeat_noop",),
        "older than the expected 3",
        "incus#3188: each repeat shortened the chain",
    ),
    "merge_forgets_dependents": (
        ("vmsnap.merge_dependents_keep_bytes",),
        "is gone, and an image needs it",
        "LibVirtKvm-scripts#41: two chains with one backing file",
    ),
    "merge_side_ignored": (
        ("vmsnap.merge_side_branch",),
        "older than the expected 3",
        "incus#3186: a commit of what no image of the chain refers to",
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
