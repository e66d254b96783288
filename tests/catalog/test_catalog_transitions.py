"""The history: each move with its reason, in the transaction that made it."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select

from bollard.core.catalog import Catalog, IllegalTransition, Transition, requested_by
from bollard.core.catalog.snapshots import SnapshotEvent, SnapshotRecord, SnapshotState
from bollard.core.catalog.transitions import history, prune
from bollard.core.vm_snapshots import Event, Records, VmSnapshotSpec
from bollard.transfer_objects.ids import VmId, VmSnapshotId

pytest_plugins = ["catalog_fixture"]

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Clock:
    """A time that tests set."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        """Tell it."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The catalog's."""
    return Clock()


@pytest.fixture
def catalog(catalog_url, clock):
    """A catalog with a clock of its own, and one snapshot that is being made."""
    with closing(Catalog(catalog_url, clock=clock)) as opened:
        with opened.transaction() as session:
            session.add(SnapshotRecord(id="s1", volume="v", created="now"))
        yield opened


def take(catalog: Catalog, *events: SnapshotEvent, reason: str = "") -> None:
    """Let events happen to the snapshot, in one transaction."""
    with catalog.transaction() as session:
        for event in events:
            session.get_one(SnapshotRecord, "s1").take(event, reason)


def moves(catalog: Catalog) -> list[tuple[str, str, str, str]]:
    """What became of it."""
    with catalog.reading() as session:
        return [(one.before, one.event, one.after, one.reason) for one in history(session, "snapshot", "s1")]


def test_move_is_recorded_with_its_reason(catalog):
    """Who, from where, by what, to where, why, when and at whose request."""
    with requested_by("r-7"):
        take(catalog, SnapshotEvent.FAILED, reason="the pool is full")
    with catalog.reading() as session:
        [one] = history(session, "snapshot", "s1")

    assert (one.before, one.event, one.after) == ("Creating", "OperationFailed", "Error")
    assert (one.reason, one.request) == ("the pool is full", "r-7")
    assert one.time == "2026-11-22T12:00:00.000+00:00"


def test_moves_are_in_their_order(catalog):
    """Within one transaction, too."""
    take(catalog, SnapshotEvent.ON_PRIMARY, SnapshotEvent.BACKUP_REQUESTED, SnapshotEvent.ON_SECONDARY)

    assert [after for _, _, after, _ in moves(catalog)] == ["CreatedOnPrimary", "BackingUp", "BackedUp"]


def test_illegal_move_changes_and_records_nothing(catalog):
    """Neither state nor history."""
    with pytest.raises(IllegalTransition, match="snapshot s1 is Creating"):
        take(catalog, SnapshotEvent.COPY_REQUESTED)
    with catalog.reading() as session:
        assert session.get_one(SnapshotRecord, "s1").state is SnapshotState.CREATING

    assert moves(catalog) == []


def test_move_that_was_undone_is_not_recorded(catalog):
    """The record and its history are durable together, or neither is."""

    def failing() -> None:
        with catalog.transaction() as session:
            session.get_one(SnapshotRecord, "s1").take(SnapshotEvent.ON_PRIMARY)
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        failing()

    assert moves(catalog) == []


def test_history_comes_in_pages(catalog):
    """Each begins after the last number that was seen."""
    take(catalog, *[SnapshotEvent.RESUMED] * 5)
    with catalog.reading() as session:
        first = history(session, "snapshot", "s1", limit=3)
        second = history(session, "snapshot", "s1", after=first[-1].number, limit=3)

    assert [len(first), len(second)] == [3, 2]
    assert first[-1].number < second[0].number


def test_old_moves_are_forgotten_in_steps(catalog, clock):
    """The history stays bounded; what is younger stays, and no step holds other writers for long."""
    take(catalog, *[SnapshotEvent.RESUMED] * 5)
    clock.now += timedelta(days=10)
    take(catalog, SnapshotEvent.ON_PRIMARY)
    gone = []
    for _ in range(3):
        with catalog.transaction() as session:
            gone.append(prune(session, timedelta(days=7), at_most=3))

    assert gone == [3, 2, 0]
    assert [event for _, event, _, _ in moves(catalog)] == ["RestsOnPrimary"]


def test_request_is_that_of_the_innermost_block(catalog):
    """A command that runs another one does not lend it its id."""
    with requested_by("outer"):
        with requested_by("inner"):
            take(catalog, SnapshotEvent.RESUMED)
        take(catalog, SnapshotEvent.RESUMED)
    with catalog.reading() as session:
        assert session.scalars(select(Transition.request).order_by(Transition.number)).all() == [
            "inner",
            "outer",
        ]
        assert session.scalar(select(func.count()).select_from(Transition)) == 2


def test_steps_of_vm_snapshots_are_recorded(catalog):
    """By the same means: their records are the catalog's, too; the error is the reason."""
    records = Records(catalog)
    spec = VmSnapshotSpec(id=VmSnapshotId("vs-1"), vm=VmId("vm-1"), name="nightly")
    records.allocate(spec, "file", [], offering={}, work={})
    records.step(spec.id, Event.CREATE_REQUESTED)
    records.step(spec.id, Event.OPERATION_FAILED, error="the pool is full")
    with catalog.reading() as session:
        found = [(one.event, one.after, one.reason) for one in history(session, "vm_snapshot", "vs-1")]

    assert found == [("CreateRequested", "Creating", ""), ("OperationFailed", "Error", "the pool is full")]
