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
        forget_keeps_object: forget answers and shows no device, but the object can still be attached
            (CVE-2023-2088: a device that was given up led to the next tenant's volume).
        forget_in_use_allowed: forget does not look whether a VM has the object (libvirt-provider#145:
            a disk's file went before its VM had let go).
        attach_again_moves: a repeated attach answers with another device (zero-os/0-core#221,
            qubes-issues#950: the same disk twice in one VM).
        detach_returns_early: detach returns while the guest goes on writing (qubes-issues#5113,
            libvirt-provider#114: libvirt's detach is asynchronous).
        detach_missing_fails: detach of a disk that the VM does not have fails (cloudstack#6508: after
            a detach that was slow, each further one was an error).

    VMs as a whole:

    Attributes:
        start_running_fails: start of a VM that runs fails (multipass#993: "domain is already running").
        stop_stopped_fails: stop of a VM that is off fails (packer#1300: "is not powered on").
        stop_returns_early: a stop that asks the guest returns while it runs
            (HyperCoreAnsibleCollection#170: the VM was still shutting down).
        disk_size_stale: disks are told with half their size (cbsd#731: a list with wrong sizes).
        resize_unseen: the guest is not told of the new size (kubevirt#5325: it had to be told by hand).
        resize_shrinks: a smaller size cuts the image (libvirt's blockResize shrinks without a word:
            virtrigaud#216 had to guard against it).
        migrate_stops_guest: the guest of a VM that was moved stands still (cloud-hypervisor#2895: a VM
            that stayed paused after its migration).
        migrate_again_fails: moving a VM to where it is fails (vsphere-csi#2507: a lost reply and a retry).
        migrate_failure_stops: a VM that cannot be moved is powered off (xen-api#4144: "a failed migration
            that ends in a shutdown VM means downtime").

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
        failed_freeze_stays: a freeze fails, and so does every thaw until the time limit
            (open-vm-tools#27).

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
        snapshot_failure_leaves_part: a snapshot that fails stays in the list, with the disks that were
            done (cloudstack#12949: the snapshots of the first disks were left).
        revert_missing_succeeds: a revert to what is not there succeeds (ansible#37906).
        metadata_drop_deletes: what is taken out of the register loses its data, too (OpenNebula#5530: a
            snapshot that was listed could neither be reverted to nor deleted).
        metadata_loses_parents: what is given back to the register are roots all (OpenNebula#4017: a
            snapshot whose parent was gone could not be defined again).

    Images above images:

    Attributes:
        overlay_without_cut: the guest writes on between the overlays of its disks
            (Corsinvest/cv4pve-barc#15: minutes between the disks of one VM).
        overlay_leaves_frozen: a quiesced overlay does not thaw (open-vm-tools#27).
        overlay_quiesce_skipped: without an agent a quiesced overlay is made all the same
            (kubevirt#14096: a snapshot did not tell that its quiesce had failed).
        overlay_again_remakes: overlays that are in place are made anew (vsphere-csi#2507: a lost reply
            and a retry).
        overlay_failure_leaves_files: what was made before a failure stays (kernel/hypeman#277: an orphan
            of the leg that had ended well).
        switch_first_only: only the first disk is switched, with success (xen-api#2190: reverting a VM
            with several disks).
        switch_one_by_one: each disk is switched for itself, and stays so when the next one fails
            (cloudstack#14030: one disk was done, and the whole told as failed).
        switch_running_allowed: a running VM's images are switched under it (cockpit-machines#917: a disk
            that is exchanged underneath a running system).
        merge_stops_guest: the guest stands still after a merge (backup-vm#23: "not ready for pivot").
        merge_loses_bytes: what was merged is not in the base (cloudstack#3193: images that the deletion
            of a snapshot destroyed).
        merge_again_copies: a repeated merge copies again (incus#3188: each repeat shortened the chain).
        merge_forgets_dependents: what a revert left keeps standing on what was merged
            (LibVirtKvm-scripts#41: two chains with one backing file).
        merge_side_ignored: a merge beside the VM's chain succeeds and does nothing (incus#3186: a commit
            of what no image of the chain refers to).

    Backups and checkpoints:

    Attributes:
        backup_misses_block: the block that the guest writes first after a cut is never marked
            (virtnbdbackup#225, #237: bitmaps that do not have what was written).
        backup_other_bitmap: the bitmap of the newest checkpoint is served, not of the one that was
            asked for (virtnbdbackup#17: the eleventh checkpoint was taken for the second).
        backup_served_live: the disk itself is served, and changes while it is read
            (kubevirt/enhancements#26: what overwrites during a backup do to its consistency).
        backup_lost_is_empty: a checkpoint that is not there is answered with an empty bitmap
            (virtnbdbackup#258: bitmaps are lost with the power, and nobody looked).
        backup_reports_all: every block is said to have changed (velero#10306: an increment of
            the whole device).
        backup_keeps_checkpoint: a backup that is given up leaves its checkpoint (virtnbdbackup#147).
        backup_begun_again: a repeated begin cuts anew (vsphere-csi#2507: a lost reply made a second
            object).
        backup_second_job: another backup of the VM ends the first one (cv4pve-barc#38: a VM was
            backed up twice at a time).
        backup_refused_leaves_checkpoint: a begin that is refused has made the checkpoint all the same
            (OpenNebula#7092, virtnbdbackup#9: "Bitmap already exists").
        backup_end_missing_fails: ending a backup that has ended fails (qmpbackup#25: after a crash no
            backup could be begun or ended).
        backup_writable: the point in time is served for writing (ovirt-imageio's design: a backup is
            read-only, whoever has its address).
        backup_size_rounded: the export is larger than the disk (CSI Snapshot Metadata: blocks that
            lie past the end of the volume).
        backup_leaves_frozen: a quiesced backup leaves the guest frozen (open-vm-tools#27).
        checkpoints_cleared_at_stop: a stop of the VM empties the bitmaps (OpenNebula#6206: bitmaps
            after a power cycle).
        checkpoints_survive_revert: bitmaps stay as they are when the disks are put back
            (OpenNebula#6741: after a restore in place the bitmaps no longer fitted).
        checkpoint_change_unnoticed: what was changed while the VM was off, or the disk was out of it,
            is not looked for (virtnbdbackup#225: what happened to the images between backups?).
        checkpoint_ends_at_old_size: what lies behind the size that the disk had is not marked
            (virtnbdbackup#109: an increment over a resize).
        checkpoints_reversed: the newest is told first (virtnbdbackup#17: the order of checkpoints).
        checkpoint_restored_unverified: one whose bitmap is gone is registered all the same
            (virtnbdbackup#225: "missing or broken bitmap" at the next backup).
        checkpoint_delete_takes_others: deleting one loses the bitmaps of the others
            (cloudstack#9446: the whole chain was lost).
        checkpoint_delete_missing_fails: deleting what is not there fails (virtnbdbackup#108, #284:
            "bitmap not found" stopped a full backup).

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
    forget_keeps_object: bool = False
    forget_in_use_allowed: bool = False
    attach_again_moves: bool = False
    detach_returns_early: bool = False
    detach_missing_fails: bool = False
    start_running_fails: bool = False
    stop_stopped_fails: bool = False
    stop_returns_early: bool = False
    disk_size_stale: bool = False
    resize_unseen: bool = False
    resize_shrinks: bool = False
    migrate_stops_guest: bool = False
    migrate_again_fails: bool = False
    migrate_failure_stops: bool = False
    freeze_says_ok_does_nothing: bool = False
    freeze_never_ends: bool = False
    thaw_ignored: bool = False
    thaw_unfrozen_fails: bool = False
    guest_state_remembered: bool = False
    agent_timeout: int = 0
    failed_freeze_stays: bool = False
    snapshot_hangs: bool = False
    snapshot_retaken: bool = False
    snapshot_without_cut: bool = False
    snapshot_thaws: bool = False
    two_current_snapshots: bool = False
    revert_partial: bool = False
    revert_does_nothing: bool = False
    snapshot_delete_takes_children: bool = False
    snapshot_delete_missing_fails: bool = False
    snapshot_failure_leaves_part: bool = False
    revert_missing_succeeds: bool = False
    metadata_drop_deletes: bool = False
    metadata_loses_parents: bool = False
    overlay_without_cut: bool = False
    overlay_leaves_frozen: bool = False
    overlay_quiesce_skipped: bool = False
    overlay_again_remakes: bool = False
    overlay_failure_leaves_files: bool = False
    switch_first_only: bool = False
    switch_one_by_one: bool = False
    switch_running_allowed: bool = False
    merge_stops_guest: bool = False
    merge_loses_bytes: bool = False
    merge_again_copies: bool = False
    merge_forgets_dependents: bool = False
    merge_side_ignored: bool = False
    backup_misses_block: bool = False
    backup_other_bitmap: bool = False
    backup_served_live: bool = False
    backup_lost_is_empty: bool = False
    backup_reports_all: bool = False
    backup_keeps_checkpoint: bool = False
    backup_begun_again: bool = False
    backup_second_job: bool = False
    backup_refused_leaves_checkpoint: bool = False
    backup_end_missing_fails: bool = False
    backup_writable: bool = False
    backup_size_rounded: bool = False
    backup_leaves_frozen: bool = False
    checkpoints_cleared_at_stop: bool = False
    checkpoints_survive_revert: bool = False
    checkpoint_change_unnoticed: bool = False
    checkpoint_ends_at_old_size: bool = False
    checkpoints_reversed: bool = False
    checkpoint_restored_unverified: bool = False
    checkpoint_delete_takes_others: bool = False
    checkpoint_delete_missing_fails: bool = False
    unavailable: int = 0
