"""The defects of the simulated array, and the checks that find them.

A few show only to a driver that trusts the array more than Bollard's does; such a driver is named, and
without the defect it passes.
"""

from __future__ import annotations

from bollard.simulators.array import Defect
from catalogue import Mutant

_NAIVE = "broken_volumes:"

# defect -> checks that find it, words of a verdict
FOUND: dict[str, tuple[tuple[str, ...], str]] = {
    "clone_empty": (
        ("vol.clone_equals_source", "vol.clone_larger_target", "vol.clone_of_clone", "arc.full_round_trip"),
        "is zero, generation 1 was written",
    ),
    "clone_shares_blocks_with_source": (("vol.clone_independent",), "ANOTHER VOLUME"),
    "clone_loses_after_source_delete": (("vol.clone_outlives_source",), "is zero"),
    "clone_keeps_source_size": (("vol.clone_larger_target", "vol.clone_equals_source"), ""),
    "clone_smaller_accepted": (("vol.clone_smaller_refused", "snap.volume_from_larger_refused"), ""),
    "create_duplicate_name_allowed": (("conc.same_create_16x_one_volume",), ""),
    "snapshot_not_point_in_time": (
        ("snap.point_in_time", "snap.while_attached"),
        "newer than the expected 1",
    ),
    "snapshot_mutable": (("snap.point_in_time",), "newer than the expected 1"),
    "snapshot_clone_is_current": (("snap.volume_from_snapshot",), ""),
    "snapshot_size_zero": (("snap.list_get",), ""),
    "snapshot_time_moves": (("snap.list_get", "snap.idempotent"), "created"),
    "snapshot_delete_deletes_all": (
        ("snap.delete_keeps_others", "snap.delete_newest_keeps_chain", "snap.delete_oldest_keeps_chain"),
        "left are []",
    ),
    "group_snapshot_torn": (("group.same_instant",), ""),
    "revert_does_nothing": (("snap.revert_exact",), "newer than the expected 1"),
    "revert_drops_newer_snapshots": (
        ("snap.revert_exact", "snap.revert_forth_and_back"),
        "a newer snapshot is gone",
    ),
    "resize_reports_but_does_not_grow": (("vol.resize_grow", "vol.resize_odd_tail"), ""),
    "resize_loses_tail": (("vol.resize_grow", "vol.resize_odd_tail"), "is zero"),
    "delete_granted_allowed": (("acl.delete_granted_refused",), "but the call succeeded"),
    "delete_says_ok_but_keeps": (
        ("vol.create_read_write_delete", "vol.delete_missing_ok", "leak.volumes"),
        "but the call succeeded",
    ),
    "grant_duplicated": (("acl.grant_twice",), ""),
    "revoke_keeps_sessions": (("acl.revoke_cuts_off",), ""),
    "revoke_says_ok_does_nothing": (("acl.revoke_cuts_off", "leak.grants"), ""),
    "chap_not_checked": (("acl.only_that_host", "acl.chap_wrong_secret_refused"), "can read the volume"),
    "chap_rotation_ignored": (("acl.chap_rotated",), "old secret"),
    "read_only_ignored": (("acl.read_only",), "newer than the expected 1"),
    "export_shows_other_volume": (("vol.two_do_not_mix",), "ANOTHER VOLUME"),
    "serial_reused": (("vol.identity_never_reused", "acl.lun_reuse_shows_other_volume_never"), ""),
    "changed_misses_blocks": (
        ("inc.delta_covers_all_changes", "inc.delta_applied_equals_target", "arc.increment_round_trip"),
        "DATA LOSS",
    ),
    "changed_past_end": (("inc.extents_sorted_disjoint_bounded",), ""),
    "changed_unsorted": (("inc.delta_covers_all_changes", "inc.extents_sorted_disjoint_bounded"), "sorted"),
    "changed_reports_all": (("inc.empty_when_unchanged",), "bytes are reported as changed"),
    "create_wrong_size": (("vol.size_seen", "vol.size_odd_bytes"), ""),
    "new_volume_shows_old_bytes": (("vol.new_reads_zero", "sec.reused_blocks_zero"), "ANOTHER VOLUME"),
    "list_skips_page_boundary": (("vol.list_complete", "vol.list_survives_deletion"), ""),
    "list_misses_newest": (("vol.list_complete",), ""),
    "capacity_negative": (("pool.capacity_sane",), "is not between 0 and total"),
    "capacity_in_mib": (("pool.capacity_sane",), "is that bytes?"),
    "qos_ignored": (("qos.read_back", "qos.at_create"), "the array shows"),
    "qos_lost_on_resize": (("qos.survives_resize_revert",), ""),
    "qos_not_enforced": (("qos.limit_holds",), ""),
    "writes_lost_after_flush": (
        ("vol.create_read_write_delete", "vol.overwrite", "vol.misdirected"),
        "is zero, generation 1 was written",
    ),
    "misdirected_write": (("vol.misdirected",), "misdirected"),
    "zero_does_nothing": (("vol.discard_reads_zero", "arc.increment_round_trip"), ""),
    "private_metadata_lost": (("vol.create_idempotent", "vol.create_read_write_delete"), ""),
}

# defect -> the driver that trusts the array, the check, words
TRUSTING: dict[str, tuple[str, tuple[str, ...], str]] = {
    "clone_empty_on_retry": (
        "AsksTheArrayToCloneAgain",
        ("vol.clone_equals_source", "vol.clone_retry_is_never_empty"),
        "is zero",
    ),
    "resize_shrink_accepted": ("LetsTheArrayJudgeSizes", ("vol.resize_shrink_refused",), "call succeeded"),
    "delete_missing_is_error": ("DeletesByRememberedId", ("vol.delete_missing_ok",), "Internal"),
    "password_echoed_in_error": ("PassesOnWhatItIsTold", ("sec.secret_in_error",), ""),
}


# The numbers that the simulator names for these stand in no list of ours: the mistake itself is told.
_PLAIN = frozenset(
    {
        "clone_keeps_source_size",
        "clone_smaller_accepted",
        "snapshot_clone_is_current",
        "snapshot_size_zero",
        "snapshot_time_moves",
        "chap_rotation_ignored",
        "export_shows_other_volume",
        "changed_reports_all",
        "zero_does_nothing",
        "qos_lost_on_resize",
    }
)
_PARTLY = {
    "grant_duplicated": "HPE CON-2642, duplicate LUNs of one host",
    "list_skips_page_boundary": "vol.list_pagination_stable_under_change",
}


def _field_bug(label: str) -> str:
    defect = next(defect for defect in Defect if defect.label == label)
    return _PARTLY.get(label) or (defect.description if label in _PLAIN else defect.field_bug)


def _found(label: str, checks: tuple[str, ...], words: str, driver: str = "") -> Mutant:
    return Mutant(
        id=f"array.{label}",
        backend="array",
        defect=label,
        driver=driver,
        killed_by=checks,
        words=words,
        field_bug=_field_bug(label),
    )


MUTANTS = (
    *(_found(label, checks, words) for label, (checks, words) in FOUND.items()),
    *(_found(label, checks, words, _NAIVE + cls) for label, (cls, checks, words) in TRUSTING.items()),
)
