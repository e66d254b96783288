"""The state machine of VM snapshots, row by row."""

import itertools

import pytest

from bollard.core.catalog import IllegalTransition
from bollard.core.spi import Conflict, Outcome
from bollard.core.vm_snapshots.states import ACTIVE, VM_SNAPSHOTS, Event, State, after

# Written out once more, so that a row that goes or changes by mistake is seen.
ROWS = """
Allocated  CreateRequested    Creating
Allocated  ExpungeRequested   Removed
Creating   CreateRequested    Creating
Creating   OperationSucceeded Ready
Creating   OperationFailed    Error
Ready      RevertRequested    Reverting
Ready      ExpungeRequested   Expunging
Ready      Lost               Error
Reverting  RevertRequested    Reverting
Reverting  OperationSucceeded Ready
Reverting  OperationFailed    Ready
Reverting  Lost               Error
Expunging  ExpungeRequested   Expunging
Expunging  OperationSucceeded Removed
Expunging  OperationFailed    Error
Expunging  Hide               Hidden
Hidden     ExpungeRequested   Expunging
Error      ExpungeRequested   Expunging
"""


def reachable() -> dict[State, list[Event]]:
    """A way from Allocated to each state."""
    ways: dict[State, list[Event]] = {State.ALLOCATED: []}
    todo = [State.ALLOCATED]
    while todo:
        state = todo.pop(0)
        for event in Event:
            to = VM_SNAPSHOTS.moves.get((state, event))
            if to is not None and to not in ways:
                ways[to] = [*ways[state], event]
                todo.append(to)
    return ways


@pytest.mark.parametrize("row", ROWS.strip().splitlines())
def test_each_row_of_the_table_can_be_walked(row):
    """From Allocated there is a way to the row's state, and the event leads where the row says."""
    start, event, end = row.split()
    state = State.ALLOCATED
    for step in reachable()[State(start)]:
        state = after(state, step)

    assert state == start
    assert after(state, Event(event)) == end


def test_there_are_no_other_rows():
    """What the table does not have is refused with a typed error that names both, not applied."""
    legal = {tuple(row.split()[:2]) for row in ROWS.strip().splitlines()}
    for state, event in itertools.product(State, Event):
        if (state, event) not in legal:
            with pytest.raises(IllegalTransition) as caught:
                after(state, event)
            assert isinstance(caught.value, Conflict)
            assert caught.value.outcome is Outcome.NOT_APPLIED
            assert (caught.value.state, caught.value.event) == (state, event)


def test_every_state_with_a_task_under_way_has_a_way_out():
    """Each of them can be driven again, or ends; and none but Removed is a dead end."""
    for state in State:
        ways = {event: to for (at, event), to in VM_SNAPSHOTS.moves.items() if at == state}
        assert bool(ways) == (state is not State.REMOVED)
        if state in ACTIVE:
            assert any(to == state or to not in ACTIVE for to in ways.values())
