"""The words of a verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Result(StrEnum):
    """How one check ended.

    ERROR means that the suite or the environment failed; it never counts against the driver.
    REFUSED: the capability is not declared, and refusing it was verified.
    """

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    REFUSED = "refused"
    ERROR = "error"
    NOT_RUN = "not-run"


class Level(StrEnum):
    """How much a check weighs."""

    MUST = "must"
    SHOULD = "should"


class Tier(StrEnum):
    """How much a run takes; each tier includes those before it.

    static    seconds; nothing is opened, so no options are needed
    smoke     under a minute; what a developer runs after each change
    standard  minutes; what a verdict needs
    """

    STATIC = "static"
    SMOKE = "smoke"
    STANDARD = "standard"

    def includes(self, other: Tier) -> bool:
        """Return whether a run of this tier runs the checks of another one."""
        order = list(Tier)
        return order.index(other) <= order.index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What is known about a check before it runs.

    Attributes:
        id: `group.name`, stable for ever.
        rule: the contract sentence of the SPI that it tests, e.g. "vol.zero".
        needs: capability mix-ins; a driver without them is verified to refuse instead.
        kinds: driver kinds it applies to ("managed", "host", "image-store").
        tier: the least of a run that includes it.
    """

    id: str
    level: Level
    rule: str
    kinds: tuple[str, ...]
    needs: tuple[type, ...] = ()
    tier: Tier = Tier.SMOKE
    what: str = ""

    @property
    def group(self) -> str:
        """First part of the id."""
        return self.id.partition(".")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one check ended, with the words that an engineer needs."""

    check: Check
    result: Result
    seconds: float
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """All outcomes of a run; `run` is the id of its ledger, or "" if nothing was opened."""

    driver: str
    distribution: str
    run: str = ""
    outcomes: tuple[Outcome, ...] = field(default_factory=tuple)

    def count(self, result: Result) -> int:
        """Return how many checks ended so."""
        return sum(o.result is result for o in self.outcomes)

    @property
    def conformant(self) -> bool:
        """No MUST failed, was lost to an error or was not run, and something passed."""
        bad = {Result.FAIL, Result.ERROR, Result.NOT_RUN}
        musts = [o for o in self.outcomes if o.check.level is Level.MUST]
        return any(o.result is Result.PASS for o in musts) and not any(o.result in bad for o in musts)

    def line(self) -> str:
        """Return the verdict in one line."""
        word = "CONFORMANT" if self.conformant else "NOT CONFORMANT"
        counts = ", ".join(f"{n} {r.value}" for r in Result if (n := self.count(r)))
        return f"{word}: {self.driver} ({self.distribution or 'unknown distribution'}): {counts}"
