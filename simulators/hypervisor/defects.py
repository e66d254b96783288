"""What the simulated hypervisor can be told to do wrong: each switch is a bug that the field has seen."""

from __future__ import annotations

from dataclasses import dataclass

from ..defects import DefectSet


@dataclass
class HypervisorDefects(DefectSet):
    """Switches of the hypervisor simulator.

    Objects on a host:

    Attributes:
        introduce_wrong_object: what appears on the host is another object of the same size
            (kubernetes#59946: the old LUN behind a reused number).
        introduce_wrong_size: the host shows a stale, smaller size (csi-lib-iscsi#29: a multipath map
            whose paths have different sizes).
        introduce_unverified: the host repeats the identity and size that it was asked for, without
            a look (CVE-2023-2088: a device taken by its path showed another tenant's volume).
        introduce_again_moves: a repeat gives the object a second place (xen-api#1004: SR.introduce
            did not refuse an SR that was there).
        introduce_again_replaces: another object under a known id replaces the first
            (kubernetes#90982: a new LUN slips under the device of an old one).
        forget_deletes_data: forget removes the object's file (rockstor-core#1577: taking a pool out
            of a system deleted what was on it).
        forget_leaves_device: forget takes the object from the list, but its device stays on the host
            (cloudstack#1600: an SR stayed attached after its LUN was gone).
        forget_missing_fails: forget of what is not there fails (cloudstack#6739: a VM that could not
            be deleted because a driver threw where nothing was left to revoke).
        forget_in_use_allowed: forget does not look whether a VM has the object (libvirt-provider#145:
            a disk's file went before its VM had let go).
        attach_again_moves: a repeated attach answers with another device (zero-os/0-core#221,
            qubes-issues#950: the same disk twice in one VM).
        detach_returns_early: detach returns while the guest goes on writing (qubes-issues#5113,
            libvirt-provider#114: libvirt's detach is asynchronous).
        detach_missing_fails: detach of a disk that the VM does not have fails (cloudstack#6508: after
            a detach that was slow, each further one was an error).

    Guests:

    Attributes:
        freeze_says_ok_does_nothing: freeze answers "frozen" while the guest goes on writing
            (cloudstack#13020: the guest agent's error was taken for a freeze).
        freeze_never_ends: the time limit of a freeze is ignored (vdsm#160: 28,000 seconds instead
            of 480).
        thaw_ignored: thaw answers "thawed" while the guest stays frozen until its time limit
            (opnsense/plugins#4148: thaw never ran in the guest).
        thaw_unfrozen_fails: thaw of a guest that is not frozen fails (tp-qemu#1774: "fsfreeze is
            limited up to 10 seconds", though the guest had thawed by itself).
        guest_state_remembered: the guest is told to be frozen until somebody thaws it, though it has
            thawed by itself (cloudstack#3724: the answer of a freeze was taken for the state).
        agent_timeout: so many freezes answer 504 although the guest was frozen (open-vm-tools#27: a
            snapshot that failed after the freeze left the VM frozen).

    VM snapshots:

    Attributes:
        snapshot_hangs: creating one does not return until this is switched off (vdsm#160).
        snapshot_retaken: a repeated create takes a later cut (vsphere-csi#2507: a lost reply made a
            second object).
        snapshot_without_cut: the guest goes on writing between the copies of its disks
            (Corsinvest/cv4pve-barc#15: minutes between the disks of one VM).
        snapshot_thaws: a snapshot thaws the guest that its caller froze
            (deckhouse/virtualization#561: who may thaw, and when).
        two_current_snapshots: the new current snapshot leaves the old one current too
            (OpenNebula#4017: a tree that no longer fits its VM cannot be reverted).
        revert_partial: only the first disk is reverted, with success (xen-api#2190: reverting a VM
            with several disks).
        revert_does_nothing: revert succeeds and changes nothing (cloudstack#4356).
        snapshot_delete_takes_children: the snapshots that were taken after it go, too (pyvmomi#878;
            cloudstack#9446: the whole chain was lost).
        snapshot_delete_missing_fails: deleting what is not there fails (cloudstack#11673: a snapshot
            that was never made could not be deleted).

    All:

    Attributes:
        unavailable: so many requests are answered with 503.
    """

    introduce_wrong_object: bool = False
    introduce_wrong_size: bool = False
    introduce_unverified: bool = False
    introduce_again_moves: bool = False
    introduce_again_replaces: bool = False
    forget_deletes_data: bool = False
    forget_leaves_device: bool = False
    forget_missing_fails: bool = False
    forget_in_use_allowed: bool = False
    attach_again_moves: bool = False
    detach_returns_early: bool = False
    detach_missing_fails: bool = False
    freeze_says_ok_does_nothing: bool = False
    freeze_never_ends: bool = False
    thaw_ignored: bool = False
    thaw_unfrozen_fails: bool = False
    guest_state_remembered: bool = False
    agent_timeout: int = 0
    snapshot_hangs: bool = False
    snapshot_retaken: bool = False
    snapshot_without_cut: bool = False
    snapshot_thaws: bool = False
    two_current_snapshots: bool = False
    revert_partial: bool = False
    revert_does_nothing: bool = False
    snapshot_delete_takes_children: bool = False
    snapshot_delete_missing_fails: bool = False
    unavailable: int = 0
