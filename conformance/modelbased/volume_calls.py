"""Concurrent calls on one volume and one snapshot: what is called, and what explains the answers."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from ...core.spi import (
    Busy,
    Call,
    DeadlineExceeded,
    Outcome,
    PrimaryDriver,
    Snapshot,
    StorageError,
    Traits,
    Unavailable,
    Volume,
    VolumeSpec,
)
from ...transfer_objects.ids import SnapshotId, VolumeId
from .together import asking, together


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The two objects that all calls are about."""

    volume: VolumeId
    snapshot: SnapshotId


@dataclass(frozen=True, slots=True)
class Asked:
    """A call to be made: the name of the method, and a size in bytes where it takes one."""

    method: str
    size: int = 0

    def __str__(self) -> str:
        return f"{self.method}({self.size} bytes)" if self.size else f"{self.method}()"


@dataclass(frozen=True, slots=True)
class Shown:
    """What an answer shows of an object: its size, and what tells it from a later one of the same id."""

    size: int
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A call that was made.

    Attributes:
        caller: number of the thread.
        answer: what it showed (None for a delete), or the error; the string "?" if it is not known, or had
            not come yet at the moment up to which a contradiction is told.
    """

    caller: int
    asked: Asked
    began: float
    ended: float
    answer: Shown | StorageError | str | None

    @property
    def only_looks(self) -> bool:
        """Whether it changed nothing: it asked for nothing, or says that nothing was done."""
        refused = isinstance(self.answer, StorageError) and self.answer.outcome is Outcome.NOT_APPLIED
        return refused or self.asked.method.startswith("get_")

    def unanswered(self) -> Self:
        """Return the call as if its answer were not known."""
        return replace(self, answer="?", ended=math.inf)

    def told(self, since: float) -> str:
        """Return the call in words, with milliseconds since `since`."""
        end = "......." if math.isinf(self.ended) else f"{1000 * (self.ended - since):7.1f}"
        when = f"{1000 * (self.began - since):7.1f} to {end} ms"
        return f"caller {self.caller} {when}  {self.asked} -> {_words(self.answer)}"


def _words(answer: Shown | StorageError | str | None) -> str:
    if isinstance(answer, StorageError):
        return f"{type(answer).__name__} ({answer.outcome})"
    if isinstance(answer, Shown):
        return f"{answer.size} bytes, {answer.token}"
    return "(not known yet)" if answer else "ok"


# -- the sequential model --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VolumeNow:
    """A volume; `asked` is the size it was created with, `token` is "" while nobody has seen it."""

    size: int
    asked: int
    token: str


@dataclass(frozen=True, slots=True)
class State:
    """What there is: the volume, and its snapshot."""

    volume: VolumeNow | None = None
    snapshot: Shown | None = None


def model(traits: Traits) -> Callable[[State, Made], Iterator[State]]:
    """Return the sequential model: the states that a call may lead to."""

    def after(state: State, made: Made) -> Iterator[State]:
        answer = made.answer
        if isinstance(answer, StorageError):
            if answer.outcome is Outcome.NOT_APPLIED:
                # Who did not get a turn, no answer or no time says nothing about the volume.
                early = isinstance(answer, (Busy, Unavailable, DeadlineExceeded))
                if early or type(answer).code in _refusals(state, made.asked, traits):
                    yield state
                return
            if answer.outcome is Outcome.UNKNOWN:
                yield state
            yield from _effects(state, made.asked, None, traits, seen=False)
        elif isinstance(answer, str):
            yield state
            yield from _effects(state, made.asked, None, traits, seen=False)
        else:
            yield from _effects(state, made.asked, answer, traits, seen=True)

    return after


def _refusals(state: State, asked: Asked, traits: Traits) -> set[str]:
    """Return the codes of the errors that are right here."""
    volume, method = state.volume, asked.method
    if method == "get_snapshot":
        return set() if state.snapshot else {"not_found"}
    if method == "delete_volume":
        kept = state.snapshot is not None and not traits.delete_with_snapshots
        return {"has_dependents"} if kept else set()
    if method == "create_volume":
        same = volume is None or asked.size == volume.size == volume.asked
        return set() if same else {"conflict"}
    if method in ("get_volume", "resize_volume", "create_snapshot") and volume is None:
        return {"not_found"}
    shrinks = method == "resize_volume" and volume is not None and asked.size < volume.size
    return {"invalid_argument"} if shrinks else set()


def _effects(
    state: State, asked: Asked, shown: Shown | None, traits: Traits, *, seen: bool
) -> Iterator[State]:
    """Yield the state after a call that succeeded and showed this; `seen`: the answer is known."""
    if _refusals(state, asked, traits) and not _repeat_is_fine(state, asked):
        return
    method = asked.method
    if method == "delete_volume":
        yield State()
    elif method == "delete_snapshot":
        yield State(state.volume)
    elif method.endswith("_snapshot"):
        yield from _cut(state, shown, seen=seen)
    else:
        yield from _volume(state, asked, shown, seen=seen)


def _repeat_is_fine(state: State, asked: Asked) -> bool:
    """A create with the size it once had, of a volume that grew: whether it is a repeat, drivers differ."""
    volume = state.volume
    return (
        asked.method == "create_volume" and volume is not None and asked.size in (volume.asked, volume.size)
    )


def _volume(state: State, asked: Asked, shown: Shown | None, *, seen: bool) -> Iterator[State]:
    now = state.volume or VolumeNow(asked.size, asked.size, "")
    if asked.method == "resize_volume":
        now = replace(now, size=asked.size)
    if not seen:
        yield State(now, state.snapshot)
    elif shown is not None and shown.size == now.size and now.token in ("", shown.token):
        yield State(replace(now, token=shown.token), state.snapshot)


def _cut(state: State, shown: Shown | None, *, seen: bool) -> Iterator[State]:
    size = state.volume.size if state.volume else 0
    now = state.snapshot or Shown(size, "")
    if not seen:
        yield State(state.volume, now)
    elif shown is not None and shown.size == now.size and now.token in ("", shown.token):
        yield State(state.volume, shown)


# -- making the calls ------------------------------------------------------------------------------------

Plan = Sequence[Asked]


def random_plans(
    rng: random.Random, callers: int, calls: int, unit: int, *, snapshots: bool, resizes: bool
) -> list[Plan]:
    """Return what each caller asks for, in order."""
    choices = [Asked("create_volume", unit), Asked("create_volume", 2 * unit), Asked("delete_volume")]
    choices += [Asked("create_volume", unit), Asked("get_volume")]
    if resizes:
        choices.append(Asked("resize_volume", 2 * unit))
    if snapshots:
        choices += [Asked("create_snapshot"), Asked("create_snapshot")]
        choices += [Asked("delete_snapshot"), Asked("get_snapshot")]
    return [[rng.choice(choices) for _ in range(calls)] for _ in range(callers)]


def play(drivers: Sequence[PrimaryDriver[Any]], plans: Sequence[Plan], target: Target) -> list[Made]:
    """Make the calls of each plan in a thread of its own, then look at both objects."""
    jobs = [
        _job(driver, n, plan, target) for n, (driver, plan) in enumerate(zip(drivers, plans, strict=True), 1)
    ]
    made = [one for calls in together(jobs) for one in calls]
    looks = [Asked("get_volume")]
    if any(asked.method.endswith("_snapshot") for plan in plans for asked in plan):
        looks.append(Asked("get_snapshot"))
    return made + _job(drivers[0], 0, looks, target)()


def _job(driver: PrimaryDriver[Any], caller: int, plan: Plan, target: Target) -> Callable[[], list[Made]]:
    def run() -> list[Made]:
        return [_make(driver, caller, asked, target) for asked in plan]

    return run


def _make(driver: Any, caller: int, asked: Asked, target: Target) -> Made:
    began = time.monotonic()
    answer = asking(lambda: _ACTS[asked.method](driver, target, asked.size, Call.within(60.0)))
    ended = time.monotonic()
    if isinstance(answer, StorageError):
        # What a lost request asked for may still happen when its caller knows nothing of it any more.
        ended = math.inf if answer.outcome is Outcome.UNKNOWN else ended
        return Made(caller=caller, asked=asked, began=began, ended=ended, answer=answer)
    return Made(caller=caller, asked=asked, began=began, ended=ended, answer=_shown(answer))


def _shown(answer: Volume | Snapshot | None) -> Shown | None:
    if isinstance(answer, Volume):
        return Shown(answer.size, f"identity {answer.identity}")
    return Shown(answer.size, f"cut {answer.created.isoformat()}") if answer is not None else None


_Act = Callable[[Any, Target, int, Call], Volume | Snapshot | None]
_ACTS: Mapping[str, _Act] = {
    "create_volume": lambda d, t, size, call: d.create_volume(VolumeSpec(id=t.volume, size=size), call),
    "delete_volume": lambda d, t, _, call: d.delete_volume(t.volume, call),
    "get_volume": lambda d, t, _, call: d.get_volume(t.volume, call),
    "resize_volume": lambda d, t, size, call: d.resize_volume(t.volume, size, call),
    "create_snapshot": lambda d, t, _, call: d.create_snapshot(t.volume, t.snapshot, call),
    "delete_snapshot": lambda d, t, _, call: d.delete_snapshot(t.snapshot, call),
    "get_snapshot": lambda d, t, _, call: d.get_snapshot(t.snapshot, call),
}
