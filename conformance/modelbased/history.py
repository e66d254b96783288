"""The steps of a history, in words and as lines of a reproducer; and a history that failed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# Those that only look are told in words if they found the difference; the reproducer has them all.
LOOKS = frozenset(
    {"look", "look_snapshot", "listed", "snapshots_listed", "grants_listed", "read", "read_snapshot", "head"}
)


@dataclass(frozen=True, slots=True)
class Step:
    """One call of a player: its method and what it was given."""

    method: Callable[..., None]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def name(self) -> str:
        """The method's name."""
        return self.method.__name__

    @property
    def words(self) -> str:
        """The step as a sentence: the first line of the method's docstring, filled in."""
        given = inspect.signature(self.method).bind(*self.args, **self.kwargs).arguments
        sentence = (inspect.getdoc(self.method) or self.name).partition("\n")[0]
        return sentence.format_map(given)

    @property
    def line(self) -> str:
        """The step as Python."""
        shown = [repr(a) for a in self.args] + [f"{k}={v!r}" for k, v in self.kwargs.items()]
        return f"play.{self.name}({', '.join(shown)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A history whose last step ended otherwise than the contract says."""

    steps: tuple[Step, ...]
    difference: str

    @property
    def told(self) -> list[Step]:
        """The steps that a reader needs: all that change something, and the last one."""
        return [s for s in self.steps[:-1] if s.name not in LOOKS] + [self.steps[-1]]

    def sentence(self) -> str:
        """Return the failure in words."""
        steps = " ".join(f"{number}. {step.words}" for number, step in enumerate(self.told, 1))
        return f"after {len(self.told)} steps: {self.difference}. The steps: {steps}"
