"""The defects of the simulated hypervisor, and the checks that find them.

The bugs of the field behind them stand in `simulators/hypervisor/defects.py`. `unavailable` is no mutant:
a cluster that says 503 for a while is a fault that every driver has to live with.
"""

from __future__ import annotations

from catalogue import Mutant

BACKEND = "hypervisor"

# defect -> checks that find it, words of a verdict, the public bug
FOUND: dict[str, tuple[tuple[str, ...], str, str]] = {
    "introduce_wrong_object": (("host.introduce_then_use",), "decoys", "kubernetes/kubernetes#59946"),
    "introduce_wrong_size": (("host.introduce_then_use",), "of 524288 bytes", "csi-lib-iscsi#29"),
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
        "xapi-project/xen-api#1004",
    ),
    "introduce_again_replaces": (
        ("host.introduce_other_refused",),
        "expected Conflict, but the call succeeded",
        "kubernetes/kubernetes#90982",
    ),
    "forget_deletes_data": (
        ("host.forget_never_deletes_data",),
        "is no longer there",
        "rockstor/rockstor-core#1577",
    ),
    "forget_leaves_device": (("host.forget_then_absent",), "still has a device", "apache/cloudstack#1600"),
    "forget_missing_fails": (("host.forget_unknown_ok",), "is not known to h1", "apache/cloudstack#6739"),
    "forget_in_use_allowed": (
        ("host.forget_in_use_refused",),
        "expected InUse, but the call succeeded",
        "ironcore-dev/libvirt-provider#145",
    ),
    "attach_again_moves": (("host.attach_twice_same",), "and after a repeat as", "QubesOS/qubes-issues#950"),
    "detach_returns_early": (
        ("host.detach_lets_go",),
        "still writes to the disk after detach",
        "QubesOS/qubes-issues#5113",
    ),
    "detach_missing_fails": (("host.detach_missing_ok",), "has no disk", "apache/cloudstack#6508"),
    "freeze_says_ok_does_nothing": (
        ("vmsnap.freeze_stops_writes",),
        "the guest says that it is thawed",
        "apache/cloudstack#13020",
    ),
    "freeze_never_ends": (
        ("vmsnap.freeze_timeout_thaws", "vmsnap.guest_state_is_truth"),
        "the guest still does not write",
        "oVirt/vdsm#160",
    ),
    "thaw_ignored": (("vmsnap.thaw_ends_freeze",), "says that it is frozen", "opnsense/plugins#4148"),
    "thaw_unfrozen_fails": (
        ("vmsnap.thaw_unfrozen_ok",),
        "fsfreeze is limited up to 10 seconds",
        "autotest/tp-qemu#1774",
    ),
    "guest_state_remembered": (
        ("vmsnap.guest_state_is_truth",),
        "a guest that writes is said to be frozen",
        "apache/cloudstack#3724",
    ),
    "agent_timeout": (("vmsnap.freeze_stops_writes",), "did not answer in time", "vmware/open-vm-tools#27"),
    "snapshot_hangs": (("vmsnap.create_twice_same",), "the call's deadline has passed", "oVirt/vdsm#160"),
    "snapshot_retaken": (
        ("vmsnap.create_twice_same",),
        "newer than the expected 1",
        "kubernetes-sigs/vsphere-csi-driver#2507",
    ),
    "snapshot_without_cut": (
        ("vmsnap.multi_disk_one_instant",),
        "do not show one instant",
        "Corsinvest/cv4pve-barc#15",
    ),
    "snapshot_thaws": (
        ("vmsnap.snapshot_keeps_freeze",),
        "has thawed a guest that the caller froze",
        "deckhouse/virtualization#561",
    ),
    "two_current_snapshots": (
        ("vmsnap.delete_one_of_three",),
        "2 current snapshots",
        "OpenNebula/one#4017",
    ),
    "revert_partial": (
        ("vmsnap.revert_all_disks",),
        "newer than the expected 1",
        "xapi-project/xen-api#2190",
    ),
    "revert_does_nothing": (
        ("vmsnap.revert_all_disks",),
        "newer than the expected 1",
        "apache/cloudstack#4356",
    ),
    "snapshot_delete_takes_children": (
        ("vmsnap.delete_one_of_three",),
        "there is no snapshot",
        "vmware/pyvmomi#878, apache/cloudstack#9446",
    ),
    "snapshot_delete_missing_fails": (
        ("vmsnap.delete_missing_ok",),
        "has no snapshot",
        "apache/cloudstack#11673",
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
