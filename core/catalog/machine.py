"""A life as a table: which event leads from which state to which.

    DOORS = StateMachine("door", State.SHUT, {(State.SHUT, Event.PUSH): State.MOVING, ...}, {State.MOVING})
    DOORS.after(State.SHUT, Event.PUSH)      the next state, or IllegalTransition

A state is transient while a task is under way, or was when its orchestrator died; from each of them a
resting state can be reached, and whoever takes it up again says so with an event of its own.
CloudStack's machines have no way out of some (cloudstack#8424, #793), and rows stay there for ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Generic, Self, TypeVar

from ..spi.errors import Conflict

State = TypeVar("State", bound=StrEnum)
Event = TypeVar("Event", bound=StrEnum)


class IllegalTransition(Conflict):
    """The state of the object does not take this event; nothing was changed."""

    def __init__(self, machine: str, state: StrEnum, event: StrEnum, who: str = "") -> None:
        what = f"{machine.replace('_', ' ')} {who}".rstrip()
        super().__init__(f"{what} is {state}: it does not take {event}")
        self.machine = machine
        self.state = state
        self.event = event


class StateMachine(Generic[State, Event]):
    """States, events, and the moves that there are; immutable.

    Args:
        name: of the kind of object, such as "vm_snapshot"; it stands in `transitions`.
        initial: where a life begins.
        moves: all legal ones.
        transient: the states in which a task is under way.

    Raises:
        ValueError: a state cannot be reached, or a transient one has no way to rest.
    """

    def __init__(
        self,
        name: str,
        initial: State,
        moves: Mapping[tuple[State, Event], State],
        transient: frozenset[State],
    ) -> None:
        self.name = name
        self.initial = initial
        self.moves: Mapping[tuple[State, Event], State] = MappingProxyType(dict(moves))
        self.transient = transient
        self._check()

    def after(self, state: State, event: Event, who: str = "") -> State:
        """Return the state that follows.

        Args:
            who: id of the object, for the message.

        Raises:
            IllegalTransition: there is none.
        """
        try:
            return self.moves[state, event]
        except KeyError as error:
            raise IllegalTransition(self.name, state, event, who) from error

    def called(self, name: str) -> Self:
        """Return the same machine under another name, for another kind of object."""
        return type(self)(name, self.initial, self.moves, self.transient)

    def state(self, text: str) -> State:
        """Return the state of that name; a record may hold it as text."""
        return type(self.initial)(text)

    def reachable(self, start: State) -> frozenset[State]:
        """Return the states to which some events lead from `start`, itself included."""
        found, todo = {start}, [start]
        while todo:
            at = todo.pop()
            new = {after for (before, _), after in self.moves.items() if before is at} - found
            found |= new
            todo += new
        return frozenset(found)

    @property
    def resting(self) -> frozenset[State]:
        """The states in which nothing is under way."""
        return self.reachable(self.initial) - self.transient

    def mermaid(self) -> str:
        """Return a drawing in Mermaid's language; transient states are marked."""
        lines = ["stateDiagram-v2", f"    [*] --> {self.initial}"]
        lines += [f"    {before} --> {after}: {events}" for before, after, events in self._arrows()]
        ends = self.reachable(self.initial) - {before for before, _ in self.moves}
        lines += [f"    {state} --> [*]" for state in sorted(ends)]
        lines.append("    classDef transient stroke-dasharray: 5 5")
        lines += [f"    class {state} transient" for state in sorted(self.transient)]
        return "\n".join(lines)

    def _arrows(self) -> Iterator[tuple[State, State, str]]:
        arrows: dict[tuple[State, State], list[str]] = {}
        for (before, event), after in self.moves.items():
            arrows.setdefault((before, after), []).append(str(event))
        order = list(type(self.initial))
        for before, after in sorted(arrows, key=lambda arrow: [order.index(state) for state in arrow]):
            yield before, after, ", ".join(arrows[before, after])

    def _check(self) -> None:
        known = self.reachable(self.initial)
        if lost := {before for before, _ in self.moves} - known:
            raise ValueError(f"{self.name}: nothing leads to {', '.join(sorted(lost))}")
        for state in self.transient:
            if not self.reachable(state) - self.transient:
                raise ValueError(f"{self.name}: nothing leads from {state} to rest")
