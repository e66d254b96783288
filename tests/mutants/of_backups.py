"""Backups of the simulated hypervisor that lose, repeat or leave something, and the checks that find it.

The bugs of the field behind the defects stand in `simulators/hypervisor/defects.py`.
"""

from __future__ import annotations

from catalogue import Mutant

BACKEND = "hypervisor"

# defect -> checks that find it, words of a verdict, the public bug
FOUND: dict[str, tuple[tuple[str, ...], str, str]] = {
    "backup_misses_block": (
        ("inc.backup_delta_covers_all_changes",),
        "DATA LOSS in round 1",
        "virtnbdbackup#225, #237: bitmaps that do not have what was written",
    ),
    "backup_other_bitmap": (
        ("inc.backup_delta_since_each_checkpoint", "inc.checkpoint_delete_keeps_others"),
        "DATA LOSS since checkpoint 1",
        "virtnbdbackup#17: the eleventh checkpoint was taken for the second",
    ),
    "backup_served_live": (
        ("inc.backup_shows_one_instant",),
        "changes while the guest writes",
        "kubevirt/enhancements#26: overwrites during a backup",
    ),
    "backup_lost_is_empty": (
        ("inc.backup_unknown_base_refused", "inc.checkpoint_restore_verifies"),
        "expected NotFound, but the call succeeded",
        "virtnbdbackup#258: bitmaps are lost with the power, and nobody looked",
    ),
    "backup_reports_all": (
        ("inc.backup_empty_when_unchanged",),
        "nothing was written, and 1048576 bytes",
        "velero#10306: an increment of the whole device",
    ),
    "backup_keeps_checkpoint": (
        ("inc.backup_not_kept_leaves_nothing",),
        "a backup that was given up left",
        "virtnbdbackup#147: the checkpoint of a failed backup stays",
    ),
    "backup_begun_again": (
        ("inc.backup_begin_twice_same",),
        "the repeat shows a later instant",
        "vsphere-csi#2507 class: a retry makes it again",
    ),
    "backup_second_job": (
        ("inc.backup_second_job_refused",),
        "expected Busy, but the call succeeded",
        "cv4pve-barc#38: one VM is backed up twice at a time",
    ),
    "backup_refused_leaves_checkpoint": (
        ("inc.backup_unknown_base_refused",),
        "a refused begin has left the checkpoints",
        'OpenNebula#7092, virtnbdbackup#9: "Bitmap already exists"',
    ),
    "backup_end_missing_fails": (
        ("inc.backup_end_twice_ok",),
        "no backup of vda runs",
        "qmpbackup#25: after a crash no backup could be begun or ended",
    ),
    "backup_writable": (
        ("inc.backup_export_read_only",),
        "expected PermissionDenied, but the call succeeded",
        "a backup's export can be written to by whoever reaches it",
    ),
    "backup_size_rounded": (
        ("inc.backup_export_fits",),
        "the export has 2097152 bytes",
        "CSI Snapshot Metadata: blocks past the end of the volume",
    ),
    "backup_leaves_frozen": (
        ("inc.backup_quiesced_thaws",),
        "the guest is still frozen",
        "open-vm-tools#27: a snapshot leaves its VM frozen",
    ),
    "checkpoints_cleared_at_stop": (
        ("inc.checkpoint_after_reattach", "inc.checkpoint_after_migration"),
        "DATA LOSS after the disk was out of its VM",
        "OpenNebula#6206: bitmaps after a power cycle",
    ),
    "checkpoints_survive_revert": (
        ("inc.backup_after_revert",),
        "DATA LOSS after a revert",
        "OpenNebula#6741: after a restore in place the bitmaps no longer fit",
    ),
    "checkpoint_change_unnoticed": (
        ("inc.checkpoint_after_power_cycle",),
        "DATA LOSS after the image was written to",
        "virtnbdbackup#225: what happened to the images between the backups?",
    ),
    "checkpoint_ends_at_old_size": (
        ("inc.backup_after_resize",),
        "DATA LOSS over a resize",
        "virtnbdbackup#109: an increment over a resize",
    ),
    "checkpoints_reversed": (
        ("inc.checkpoints_oldest_first",),
        "are told, they began as",
        "virtnbdbackup#17: the order of checkpoints",
    ),
    "checkpoint_restored_unverified": (
        ("inc.checkpoint_restore_verifies",),
        "are named",
        'virtnbdbackup#225: "missing or broken bitmap" of what was registered again',
    ),
    "checkpoint_delete_takes_others": (
        ("inc.checkpoint_delete_keeps_others", "inc.checkpoint_restore_verifies"),
        "or its bitmap is lost",
        "cloudstack#9446 class: deleting one takes the chain along",
    ),
    "checkpoint_delete_missing_fails": (
        ("inc.checkpoint_delete_twice_ok",),
        "not found in backing chain",
        'virtnbdbackup#108, #284: "bitmap not found"',
    ),
}

MUTANTS = (
    *(
        Mutant(
            id=f"{BACKEND}.{defect}",
            backend=BACKEND,
            killed_by=checks,
            words=words,
            field_bug=bug,
            defect=defect,
        )
        for defect, (checks, words, bug) in FOUND.items()
    ),
    Mutant(
        id=f"{BACKEND}.BackupsUnavailableButTaken",
        backend=BACKEND,
        killed_by=("host.undeclared_backups_refused",),
        words="expected Unsupported, but the call succeeded",
        field_bug="xen-orchestra#8313: changed blocks were asked for where they could not be used",
        driver="broken_backups:BackupsUnavailableButTaken",
    ),
)
