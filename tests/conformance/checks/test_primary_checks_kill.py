"""Each check fails on an array with the defect that it is there for, and says so in words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bollard.conformance.lab import Lab
from bollard.simulators.array import ArraySimulator

Verdict = Callable[[str, Lab], str]

# check -> defect of the simulated array, words of the verdict
DEFECTS = {
    "acl.chap_wrong_secret_refused": ("chap_not_checked", "wrong secret can read"),
    "acl.lun_reuse_shows_other_volume_never": ("serial_reused", "deleted volume"),
    "arc.bit_flip_detected": ("clone_empty", "parts were archived"),
    "arc.cancel_leaves_nothing_visible": ("delete_says_ok_but_keeps", "left volumes on the pool"),
    "arc.interrupted_resumes": ("clone_empty", "stored before the run was cancelled"),
    "arc.restore_to_larger": ("clone_empty", "parts were archived"),
    "cap.moves_with_create_delete": ("capacity_in_mib", "used went from"),
    "group.members_are_snapshots": ("snapshot_not_point_in_time", "newer than the expected 1"),
    "group.revert_all": ("revert_does_nothing", "newer than the expected 1"),
    "group.same_instant": ("group_snapshot_torn", "was cut after write"),
    "inc.after_revert": ("changed_misses_blocks", "DATA LOSS"),
    "inc.base_none_is_allocated": ("changed_misses_blocks", "DATA LOSS"),
    "inc.chain_restore_each": ("changed_misses_blocks", "restores to other bytes"),
    "inc.delta_applied_equals_target": ("changed_misses_blocks", "DATA LOSS"),
    "inc.extents_sorted_disjoint_bounded": ("changed_past_end", "ends at"),
    "qos.at_create": ("qos_ignored", "shown are"),
    "snap.delete_newest_keeps_chain": ("snapshot_delete_deletes_all", "are left: []"),
    "snap.delete_oldest_keeps_chain": ("snapshot_delete_deletes_all", "are left: []"),
    "snap.revert_forth_and_back": ("revert_drops_newer_snapshots", "does not exist"),
    "vol.clone_larger_target": ("clone_empty", "is zero, generation 1 was written"),
    "vol.delete_frees_space": ("delete_leaks_space", "used went from"),
    "vol.identity_never_reused": ("serial_reused", "has the identity"),
    "vol.resize_odd_tail": ("resize_loses_tail", "lost the old end"),
}
SLOW = {
    "cap.out_of_space_typed_and_clean": ("delete_leaks_space", "used went from"),
    "inc.chain_deep": ("changed_misses_blocks", "restores to other bytes"),
    "inc.restore_after_revert": ("changed_misses_blocks", ""),
    "qos.limit_holds": ("qos_not_enforced", "were served"),
    "snap.chain_deep": ("snapshot_delete_deletes_all", "are left: []"),
}


@pytest.mark.parametrize("check", sorted(DEFECTS))
def test_defect_of_the_array_is_found(
    array: ArraySimulator, array_lab: Lab, verdict: Verdict, check: str
) -> None:
    """The check fails on the array with the defect."""
    defect, words = DEFECTS[check]
    array.defects.set(defect)
    found = verdict(check, array_lab)
    assert found
    assert words in found


@pytest.mark.slow
@pytest.mark.parametrize("check", sorted(SLOW))
def test_defect_of_the_array_is_found_slowly(
    array: ArraySimulator, array_lab: Lab, verdict: Verdict, check: str
) -> None:
    """The check of a deep or disruptive run passes on the array, and fails with the defect."""
    defect, words = SLOW[check]
    assert not verdict(check, array_lab)
    array.defects.set(defect)
    found = verdict(check, array_lab)
    assert found
    assert words in found
