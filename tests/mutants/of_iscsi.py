"""The defects of a real iSCSI array, and the checks that find them."""

from __future__ import annotations

from catalogue import Mutant

# defect -> checks that find it, words of a verdict, the public bug
FOUND: dict[str, tuple[tuple[str, ...], str, str]] = {
    "revoke_only_unbinds": (
        ("acl.revoke_cuts_off",),
        "",
        "tgt: unbinding an initiator leaves its sessions, which write on",
    ),
    "revoke_only_kicks": (
        ("acl.only_that_host",),
        "can read the volume",
        "CVE-2023-2088 class: the door stays open, and an initiator logs in again by itself",
    ),
    "grant_without_chap": (
        ("acl.chap_wrong_secret_refused",),
        "",
        "tgt: a target without an account lets an allowed initiator in without CHAP",
    ),
    "grant_ignores_read_only": (
        ("acl.read_only",),
        "",
        "read-only is set on the LUN, and was not",
    ),
    "clone_is_a_hard_link": (("vol.clone_independent",), "", "a clone that shares its blocks for writing"),
    "resize_is_not_told": (
        ("vol.resize_while_granted",),
        "",
        "tgt keeps a LUN's size from when its file was opened",
    ),
    "delete_keeps_the_file": (
        ("vol.delete_frees_space",),
        "",
        "a deleted volume's file keeps a second name, and its space",
    ),
    "snapshot_is_a_hard_link": (("snap.point_in_time",), "", "a snapshot that follows its source"),
    "group_is_torn": (
        ("group.same_instant",),
        "",
        "two reflinks one after the other: torn in 57 of 60 tries under dependent writes",
    ),
    "diff_ignores_holes": (
        ("inc.discard_is_reported",),
        "",
        "a delta without the ranges that were discarded: their old data comes back",
    ),
}

MUTANTS = (
    *(
        Mutant(
            id=f"iscsi_ssh.{defect}",
            backend="iscsi_ssh",
            defect=defect,
            killed_by=checks,
            words=words,
            field_bug=bug,
        )
        for defect, (checks, words, bug) in FOUND.items()
    ),
    Mutant(
        id="iscsi_ssh.dies_before_delete",
        backend="iscsi_ssh",
        defect="dies_before_delete",
        driver="broken_iscsi:LostReplyIsSuccess",
        killed_by=("vol.create_read_write_delete",),
        field_bug="paramiko: exit status -1 stands for a lost connection, and was not looked at",
    ),
)
