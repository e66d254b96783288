"""What changed between two runs: the question behind every release of a driver."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..model import Check, Level, Outcome, Result, Verdict

# Figures jitter on shared machines; below a fifth nobody should look.
NOTEWORTHY = 0.2

_HELD = frozenset({Result.PASS, Result.REFUSED, Result.NOT_APPLICABLE})
_BROKEN = frozenset({Result.FAIL, Result.KNOWN_FAIL, Result.ERROR})


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A check that ended otherwise; `regression` if the driver got worse, `fix` if it got better."""

    check: Check
    old: Result
    new: Result
    message: str

    @property
    def regression(self) -> bool:
        """It held and is broken, or passed and cannot be done or was not looked at any more."""
        withdrawn = self.old is Result.PASS and self.new in (Result.REFUSED, Result.NOT_RUN)
        return (self.old in _HELD and self.new in _BROKEN) or withdrawn

    @property
    def fix(self) -> bool:
        """It was broken and holds."""
        return self.old in _BROKEN and self.new in _HELD


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureChange:
    """A figure that changed by more than a fifth."""

    check: Check
    name: str
    unit: str
    old: float
    new: float

    @property
    def percent(self) -> float:
        """By how much, of the old figure; infinite if that was zero."""
        return (self.new - self.old) / abs(self.old) * 100 if self.old else math.copysign(math.inf, self.new)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """All that changed.

    Attributes:
        changes: of checks that both runs have.
        added: checks that only the new run has.
        removed: checks that only the old run has.
    """

    changes: tuple[Change, ...]
    added: tuple[Outcome, ...]
    removed: tuple[Outcome, ...]
    measures: tuple[MeasureChange, ...]

    @property
    def regressions(self) -> list[Change]:
        """Changes for the worse; a figure's check never fails, so it is none."""
        return [c for c in self.changes if c.regression and c.check.level is not Level.MEASURE]

    @property
    def fixes(self) -> list[Change]:
        """Changes for the better."""
        return [c for c in self.changes if c.fix]

    @property
    def others(self) -> list[Change]:
        """Changes that are neither."""
        told = [*self.regressions, *self.fixes]
        return [c for c in self.changes if c not in told]


def difference(old: Verdict, new: Verdict) -> Difference:
    """Compare two runs, check by check."""
    before = {o.check.id: o for o in old.outcomes}
    after = {o.check.id: o for o in new.outcomes}
    both = [(before[id_], after[id_]) for id_ in sorted(before.keys() & after.keys())]
    return Difference(
        changes=tuple(_change(a, b) for a, b in both if a.result is not b.result),
        added=tuple(after[id_] for id_ in sorted(after.keys() - before.keys())),
        removed=tuple(before[id_] for id_ in sorted(before.keys() - after.keys())),
        measures=tuple(change for a, b in both for change in _measures(a, b)),
    )


def _change(old: Outcome, new: Outcome) -> Change:
    return Change(check=new.check, old=old.result, new=new.result, message=new.message)


def _measures(old: Outcome, new: Outcome) -> list[MeasureChange]:
    before = {(m.name, m.unit): m.value for m in old.measures}
    changes = [
        MeasureChange(check=new.check, name=m.name, unit=m.unit, old=before[m.name, m.unit], new=m.value)
        for m in new.measures
        if (m.name, m.unit) in before
    ]
    return [c for c in changes if c.old != c.new and abs(c.percent) > NOTEWORTHY * 100]
