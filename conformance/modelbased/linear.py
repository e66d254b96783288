"""Is there an order of these calls that explains what they answered?

    caller 1   |---- create ----|            |-- get: NotFound --|
    caller 2            |------ delete ------|
                                                    explained by: create, delete, get

A call takes effect at one moment between its beginning and its end. The search (Wing and Gong, with the
memory of states that Lowe and porcupine added) tries the calls that may come first, until all are placed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Protocol, Self, TypeVar


class Event(Protocol):
    """One call of a history."""

    @property
    def began(self) -> float:
        """When it was made, seconds."""

    @property
    def ended(self) -> float:
        """When it had returned; infinity if what it asked for may happen later."""

    @property
    def only_looks(self) -> bool:
        """Whether it changed nothing, in whatever order."""

    def unanswered(self) -> Self:
        """Return the call as if its answer were not known."""


E = TypeVar("E", bound=Event)
S = TypeVar("S", bound=Hashable)


def explained(events: Sequence[E], start: S, after: Callable[[S, E], Iterable[S]]) -> bool:
    """Return whether some order explains the events."""
    seen: set[tuple[int, S]] = set()
    todo: list[tuple[int, S]] = [(0, start)]
    everything = (1 << len(events)) - 1
    while todo:
        done, state = todo.pop()
        if done == everything:
            return True
        left = [n for n in range(len(events)) if not done >> n & 1]
        first_end = min(events[n].ended for n in left)
        for n in left:
            if events[n].began > first_end:
                continue  # another call had ended before this one began
            for following in after(state, events[n]):
                step = (done | 1 << n, following)
                if step not in seen:
                    seen.add(step)
                    todo.append(step)
    return False


def contradiction(events: Sequence[E], start: S, after: Callable[[S, E], Iterable[S]]) -> list[E]:
    """Return few events that no order explains, in the order of their beginnings; [] if one does.

    First the shortest beginning of the history that cannot be explained: what has not ended there counts
    as unanswered. Then, all that only looked and is not needed for the contradiction is left out.
    """
    if explained(events, start, after):
        return []
    few = next(
        few
        for few in (_until(events, end) for end in sorted(e.ended for e in events))
        if not explained(few, start, after)
    )
    for event in list(few):
        rest = [e for e in few if e is not event]
        if event.only_looks and not explained(rest, start, after):
            few = rest
    return sorted(few, key=lambda event: event.began)


def _until(events: Sequence[E], end: float) -> list[E]:
    """Return the history as it was known at a moment."""
    if math.isinf(end):
        return list(events)
    return [e if e.ended <= end else e.unanswered() for e in events if e.began <= end]
