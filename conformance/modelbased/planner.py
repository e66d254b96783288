"""Drawing histories, playing those that are worth it, and making a failing one short.

    Hypothesis ── draws acts ──> Planner ── its model says how each must end ──> steps ──> player
                                    ^                                                       │ failed
                                    └──── the same acts, without some of them <── shorten <─┘

The model needs no answer of the driver: a history is planned as a whole before anything is played, and
any selection of its acts can be planned anew. Hypothesis varies an example five times before it draws a
fresh one, and shrinks by hundreds of trials: cheap for a function, an hour on an array. So only the
histories that do something new are played, and a failing one is shortened here, act by act.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from ...core.spi import StorageError
from ..lab import ContractBroken, Notes
from .expecting import Difference
from .history import LOOKS, Failure, Step

_DRAWN_PER_PLAYED = 20
_SHRINKING = 60.0  # seconds at most


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of act.

    Attributes:
        weight: how often it is drawn, compared with the others.
        name: of the planner's method.
        needs: mix-ins of the driver.
        on: what must be there, in the planner's words; "" if nothing.
        arguments: how they are drawn.
    """

    weight: int
    name: str
    needs: tuple[Any, ...] = ()
    on: str = ""
    arguments: Mapping[str, st.SearchStrategy[Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Act:
    """What was drawn: a kind, and its arguments."""

    kind: Kind
    given: Mapping[str, Any]

    def simpler(self) -> Iterator[Act]:
        """Yield the act with one of its numbers or lists as small as it gets."""
        for name, value in self.given.items():
            less = {"pick": 0, "units": 1, "since": 0}.get(name, value)
            less = value[:1] if isinstance(value, list) else less
            if less != value:
                yield replace(self, given={**self.given, name: less})


class Planner(RuleBasedStateMachine):
    """One history. Subclasses have the model, and a method for each kind of act that plans its steps.

    Hypothesis would weigh rules alike, and histories of deletes of what is not there find nothing: so
    there is one rule, and it draws by the weights of `kinds`.
    """

    kinds: ClassVar[Sequence[Kind]]

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch
        self.acts: list[Act] = []
        self.steps: list[Step] = []

    @rule(data=st.data())
    def draw(self, data: st.DataObject) -> None:
        """Draw one act that makes sense now."""
        kinds = [kind for kind in self.kinds if self.can(kind) for _ in range(kind.weight)]
        kind = data.draw(st.sampled_from(kinds))
        self.do(Act(kind, {name: data.draw(strategy) for name, strategy in kind.arguments.items()}))

    def do(self, act: Act) -> None:
        """Plan the steps of an act, if it makes sense now."""
        if self.can(act.kind):
            self.acts.append(act)
            getattr(self, act.kind.name)(**act.given)

    def can(self, kind: Kind) -> bool:
        """Tell whether an act of this kind makes sense now."""
        raise NotImplementedError

    def finish(self) -> None:
        """Plan the steps that compare all that there is in the end."""
        raise NotImplementedError

    def clean(self) -> None:
        """Remove what was made."""
        raise NotImplementedError

    def plan(self, method: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        """Write a step of the player down."""
        self.steps.append(Step(method, args, kwargs))

    def teardown(self) -> None:
        """The history is drawn."""
        self.finish()
        self._watch.take(self)


class _Enough(BaseException):
    """Ends a run of Hypothesis; it takes every `Exception` for a failure, and would begin to shrink."""


@dataclass(slots=True, kw_only=True)
class Watch:
    """What goes on over all histories.

    Attributes:
        make: returns a planner for a history.
        until: when no more steps are played.
        most: histories to play.
        novelty: a history is played if it goes on from one kind of step to another one in so many ways
            that no history before had.
        shrinking: seconds from the first failure on, to make it short.
    """

    make: Callable[[Watch], Planner]
    until: float
    most: int
    novelty: int
    shrinking: float
    failure: Failure | None = None
    histories: int = 0
    steps: int = 0
    _turns: set[tuple[str, ...]] = field(default_factory=set)

    @property
    def over(self) -> bool:
        """Tell whether the time is up: from then on, nothing is played."""
        return time.monotonic() >= self.until

    def take(self, drawn: Planner) -> None:
        """Play a history if it is worth that; end the run after the last one, and after a failure."""
        if self._is_new(drawn.steps) and not self.over:
            self.histories += 1
            self.failure = self._played(drawn)
        if self.failure is not None:
            self.until = time.monotonic() + self.shrinking
            self._shorten(drawn.acts)
        if self.failure is not None or self.over or self.histories >= self.most:
            raise _Enough

    def _is_new(self, steps: Sequence[Step]) -> bool:
        kinds = [f"{step.name} {step.kwargs.get('expect')}" for step in steps if step.name not in LOOKS]
        turns = set(pairwise(kinds))
        if len(turns - self._turns) < self.novelty:
            return False
        self._turns |= turns
        return True

    def _played(self, planned: Planner) -> Failure | None:
        """Play a history from its beginning; return how it failed, or None."""
        try:
            for number, step in enumerate(planned.steps, 1):
                if self.over:
                    return None
                self.steps += 1
                try:
                    step.method(*step.args, **step.kwargs)
                except (Difference, StorageError) as error:
                    told = str(error) if isinstance(error, Difference) else f"{type(error).__name__}: {error}"
                    return Failure(steps=tuple(planned.steps[:number]), difference=told)
        finally:
            planned.clean()
        return None

    # -- making a failure short ------------------------------------------------------------------------

    def _shorten(self, acts: Sequence[Act]) -> None:
        """Leave out acts while it still fails: halves first, then smaller parts, then one by one."""
        acts, part = list(acts), max(1, len(acts) // 2)
        while True:
            shorter = next(filter(self._fails, _without(acts, part)), None)
            if shorter is not None:
                acts = shorter
            elif part > 1:
                part //= 2
            else:
                break
        for place in range(len(acts)):
            for simpler in acts[place].simpler():
                changed = [*acts[:place], simpler, *acts[place + 1 :]]
                if self._fails(changed):
                    acts = changed

    def _fails(self, acts: Sequence[Act]) -> bool:
        """Plan these acts anew and play them; keep the failure if there still is one."""
        planned = self.make(self)
        for act in acts:
            planned.do(act)
        planned.finish()
        failure = self._played(planned)
        if failure is not None:
            self.failure = failure
        return failure is not None


def _without(acts: Sequence[Act], part: int) -> Iterator[list[Act]]:
    """Yield the acts without one part of them, the last ones first: what follows matters least."""
    for begin in reversed(range(0, len(acts), part)):
        yield [*acts[:begin], *acts[begin + part :]]


def run_histories(
    make: Callable[[Watch], Planner],
    notes: Notes,
    *,
    histories: int,
    steps: int,
    seconds: float,
    novelty: int,
    script: Callable[[Failure], str],
) -> None:
    """Play random histories until one fails or the time is up.

    Args:
        make: returns a planner for a history.
        notes: of the check; takes the reproducer and how much was played.
        histories: to play, at most.
        steps: in each, besides those that only look.
        seconds: after which no step is begun; to make a failure short takes as long again, or a minute.
        novelty: as in `Watch`; 0 plays whatever is drawn.
        script: makes the reproducer.

    Raises:
        ContractBroken: a short history that failed, in words.
    """
    watch = Watch(
        make=make,
        until=time.monotonic() + seconds,
        most=histories,
        novelty=novelty,
        shrinking=min(_SHRINKING, seconds),
    )
    settings = hypothesis.settings(
        max_examples=_DRAWN_PER_PLAYED * histories,
        stateful_step_count=steps,
        phases=(hypothesis.Phase.generate,),
        # Nothing is kept between runs, and a backend may be as slow as it likes.
        database=None,
        deadline=None,
        derandomize=False,
        print_blob=False,
        verbosity=hypothesis.Verbosity.quiet,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    # It takes any callable that returns a machine, whatever its annotation says.
    seeded: Any = hypothesis.seed(notes.seed)(partial(make, watch))
    with suppress(_Enough):
        run_state_machine_as_test(seeded, settings=settings)
    if watch.failure is not None:
        notes.reproducer = script(watch.failure)
        raise ContractBroken(watch.failure.sentence())
    notes.measure("histories", watch.histories, "histories")
    notes.measure("steps", watch.steps, "steps")
