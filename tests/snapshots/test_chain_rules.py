"""The rules on chains, over records alone."""

from __future__ import annotations

import pytest

from bollard.core.catalog.snapshots import (
    Reason,
    Ref,
    RefEvent,
    RefState,
    SnapshotEvent,
    SnapshotRecord,
    SnapshotState,
)
from bollard.core.snapshots.kvm import rules
from bollard.core.spi import Busy, Conflict, Unsupported
from bollard.transfer_objects.enums import DataStoreRole, StoragePoolType


def ref(number: int, parent: int | None = None, **fields: object) -> Ref:
    """A ref that is Ready with a checkpoint, unless told otherwise."""
    values = {
        "snapshot": f"s{number}",
        "volume": "v",
        "store": "pool",
        "role": DataStoreRole.PRIMARY,
        "path": f"snapshots/s{number}",
        "state": RefState.READY,
        "checkpoint": f"s{number}",
    }
    made = Ref(**{**values, "parent": parent, **fields})  # type: ignore[arg-type]  # by name
    made.id = number
    return made


def planned(refs: list[Ref], **changes: object) -> rules.Plan:
    """The plan where all else is in favour of a delta."""
    arguments = {
        "enabled": True,
        "delta_max": 3,
        "role": DataStoreRole.PRIMARY,
        "reachable": {"pool"},
        "whole": {one.checkpoint for one in refs},
    }
    return rules.plan(refs, **{**arguments, **changes})  # type: ignore[arg-type]  # by name


def test_delta_is_based_on_the_newest():
    """Of two in a chain the newer one is the parent; nothing ends."""
    refs = [ref(1), ref(2, parent=1)]

    assert planned(refs) == rules.Plan(parent=refs[1])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"enabled": False}, Reason.SETTING_OFF),
        ({"role": DataStoreRole.IMAGE}, Reason.ROLE_SWITCHED),
        ({"reachable": set()}, Reason.OTHER_STORE),
        ({"delta_max": 2}, Reason.LENGTH),
        ({"whole": {"s1"}}, Reason.LOST_CHECKPOINT),
    ],
)
def test_full_says_why(changes, reason):
    """Each condition that fails gives a full with its own reason; the parent's chain is not touched yet."""
    refs = [ref(1), ref(2, parent=1)]
    plan = planned(refs, **changes)

    assert (plan.parent, plan.full_reason) == (None, reason)
    assert not refs[1].end_of_chain
    assert plan.checkpoint is (reason is not Reason.SETTING_OFF)


def test_ended_chain_gives_its_reason():
    """What ended a chain is why the next one is a full."""
    refs = [ref(1, end_of_chain=True, end_reason=Reason.REVERTED)]

    assert planned(refs).full_reason is Reason.REVERTED


def test_hidden_and_copied_refs_are_no_parents():
    """What its user deleted, and what has no checkpoint, is passed over."""
    refs = [ref(1, state=RefState.HIDDEN), ref(2, checkpoint="", full_reason=Reason.COPIED)]

    assert planned(refs).full_reason is Reason.FIRST


def test_first_reason_of_an_end_stays():
    """A chain that was reverted and then switched off has ended because of the revert."""
    one = ref(1)
    one.end_chain(Reason.REVERTED)
    one.end_chain(Reason.SETTING_OFF)

    assert one.end_reason is Reason.REVERTED


def test_children_count_on_every_store_and_while_they_go():
    """A child on another store, or one whose file is not removed yet, keeps its parent's file."""
    root = ref(1, state=RefState.HIDDEN)
    elsewhere = ref(2, parent=1, store="other", state=RefState.DESTROYING)

    assert rules.orphaned([root, elsewhere]) == []
    assert rules.orphaned([root]) == [root]


@pytest.mark.parametrize(
    "other",
    [
        {"state": RefState.CREATING},
        {"state": RefState.MIGRATING},
        {"backing_up": True},
    ],
)
def test_one_at_a_time(other):
    """While a snapshot is made, moved, or not tidied up, nothing else begins."""
    with pytest.raises(Busy):
        rules.check_idle([ref(1), ref(2, **other)])


def test_copies_hinder_nobody():
    """A copy that is being made to another zone does not keep the next snapshot waiting."""
    rules.check_idle([ref(1), ref(2, state=RefState.CREATING, full_reason=Reason.COPIED)])


@pytest.mark.parametrize("pool_type", sorted(set(StoragePoolType) - rules.FILE_POOLS))
def test_only_pools_of_files_have_deltas(pool_type):
    """Every other type of pool is refused."""
    with pytest.raises(Unsupported):
        rules.check_pool(pool_type)


def test_events_that_do_not_fit_change_nothing():
    """A snapshot that is gone is not created again, and a ref that is being made is not hidden."""
    record = SnapshotRecord(id="s1", volume="v", created="now", state=SnapshotState.DESTROYED)
    with pytest.raises(Conflict, match="s1 is Destroyed"):
        record.take(SnapshotEvent.CREATE_REQUESTED)
    one = ref(1, state=RefState.CREATING)
    with pytest.raises(Conflict, match="Creating"):
        one.take(RefEvent.HIDE_REQUESTED)

    assert (record.state, one.state) == (SnapshotState.DESTROYED, RefState.CREATING)
