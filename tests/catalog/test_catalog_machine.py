"""State machines: each state has a way to rest, and what is not in the table is refused."""

from __future__ import annotations

from enum import StrEnum
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bollard.core.catalog import IllegalTransition, StateMachine
from bollard.core.catalog.object_states import OBJECTS
from bollard.core.catalog.snapshot_states import SNAPSHOTS, SnapshotEvent, SnapshotState
from bollard.core.catalog.snapshots import REFS, SnapshotRecord
from bollard.core.catalog.volume_states import VOLUMES
from bollard.core.spi import Conflict, Outcome
from bollard.core.vm_snapshots.states import VM_SNAPSHOTS

MACHINES = {machine.name: machine for machine in (SNAPSHOTS, VM_SNAPSHOTS, VOLUMES, OBJECTS, REFS)}
each = pytest.mark.parametrize("machine", MACHINES.values(), ids=list(MACHINES))


class Door(StrEnum):
    """States of a small machine."""

    SHUT = "Shut"
    MOVING = "Moving"
    OPEN = "Open"


class Hand(StrEnum):
    """Its events."""

    PUSH = "Push"
    DONE = "Done"


def states(machine) -> list[StrEnum]:
    """All states of a machine, those included that no row has."""
    kind: type[StrEnum] = type(machine.initial)
    return list(kind)


def events(machine) -> list[StrEnum]:
    """All events of a machine, those included that no row has."""
    kind: type[StrEnum] = type(next(event for _, event in machine.moves))
    return list(kind)


@each
def test_all_states_are_reached(machine):
    """No member of the enumeration is a word that nothing leads to."""
    assert machine.reachable(machine.initial) == set(states(machine))


@each
@given(data=st.data())
def test_walk_stays_inside_and_can_rest(machine, data):
    """Whatever happens in whatever order, the state is a known one, and a resting one can be reached."""
    record = SimpleNamespace(id="x", state=machine.initial)
    for event in data.draw(st.lists(st.sampled_from(events(machine)), max_size=30)):
        before = record.state
        if (before, event) in machine.moves:
            record.state = machine.after(before, event)
        else:
            with pytest.raises(IllegalTransition) as caught:
                machine.after(before, event)
            assert (caught.value.state, caught.value.event) == (before, event)
        assert record.state in set(states(machine))
        assert machine.reachable(record.state) & machine.resting


@each
def test_each_transient_state_can_be_driven_again(machine):
    """There is an event that leaves it as it is, or ends it: a sync is never without a legal move."""
    for state in machine.transient:
        after = {to for (at, _), to in machine.moves.items() if at == state}
        assert state in after or after & machine.resting


@each
def test_only_ends_are_without_a_way_on(machine):
    """Of the states that nothing leads away from there is one, and nothing is under way in it."""
    ends = machine.reachable(machine.initial) - {before for before, _ in machine.moves}

    assert len(ends) == 1
    assert not ends & machine.transient


def test_illegal_event_is_a_conflict_that_names_who_and_what():
    """Nothing was applied."""
    with pytest.raises(
        Conflict, match="snapshot s-1 is Destroyed: it does not take CreateRequested"
    ) as caught:
        SNAPSHOTS.after(SnapshotState.DESTROYED, SnapshotEvent.CREATE_REQUESTED, "s-1")

    assert caught.value.outcome is Outcome.NOT_APPLIED


def test_machine_with_a_trap_is_refused():
    """A transient state without a way to rest is seen when the machine is made."""
    with pytest.raises(ValueError, match="nothing leads from Moving to rest"):
        StateMachine("door", Door.SHUT, {(Door.SHUT, Hand.PUSH): Door.MOVING}, frozenset({Door.MOVING}))


def test_machine_with_a_row_that_nothing_leads_to_is_refused():
    """A row of a state that cannot be reached is a mistake."""
    with pytest.raises(ValueError, match="nothing leads to Moving"):
        StateMachine("door", Door.SHUT, {(Door.MOVING, Hand.DONE): Door.OPEN}, frozenset())


def test_drawing_has_every_move_once():
    """Mermaid's language: start, arrows with their events, ends, and transient states marked."""
    moves = {
        (Door.SHUT, Hand.PUSH): Door.MOVING,
        (Door.MOVING, Hand.DONE): Door.OPEN,
        (Door.MOVING, Hand.PUSH): Door.OPEN,
    }
    drawn = StateMachine("door", Door.SHUT, moves, frozenset({Door.MOVING})).mermaid()

    assert drawn.splitlines() == [
        "stateDiagram-v2",
        "    [*] --> Shut",
        "    Shut --> Moving: Push",
        "    Moving --> Open: Done, Push",
        "    Open --> [*]",
        "    classDef transient stroke-dasharray: 5 5",
        "    class Moving transient",
    ]


def test_value_without_a_session_is_moved_and_not_recorded():
    """A record that is only looked at takes events as well, by the same rules."""
    record = SnapshotRecord(id="s1", volume="v", created="now")
    record.take(SnapshotEvent.FAILED)
    with pytest.raises(IllegalTransition):
        record.take(SnapshotEvent.COPY_REQUESTED)

    assert record.state is SnapshotState.ERROR
