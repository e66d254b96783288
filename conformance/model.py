"""The words of a verdict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum


class Result(StrEnum):
    """How one check ended.

    KNOWN_FAIL: it failed, and the vendor has said so before, with reason, ticket and expiry date.
    REFUSED: the capability is not declared, and refusing it was verified.
    NOT_APPLICABLE: a trait of the driver makes the check meaningless; the message says which.
    ERROR: the suite or the environment failed; it never counts against the driver.
    NOT_RUN: it belongs to the run's tier, and was left out (`--select`, `--shard`, an interrupt).
    """

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    KNOWN_FAIL = "known-fail"
    REFUSED = "refused"
    NOT_APPLICABLE = "not-applicable"
    ERROR = "error"
    NOT_RUN = "not-run"


class Level(StrEnum):
    """How much a check weighs: MUST decides, SHOULD is told, MEASURE writes figures down and never fails."""

    MUST = "must"
    SHOULD = "should"
    MEASURE = "measure"


class Tier(StrEnum):
    """How much a run takes; each tier includes those before it.

    static      seconds; nothing is opened, so no options are needed
    smoke       under a minute; what a developer runs after each change
    standard    minutes; what a verdict needs
    deep        an hour and more: thousands of objects, long random histories
    disruptive  restarts or fills the backend; needs `disruptive = true` in the configuration
    """

    STATIC = "static"
    SMOKE = "smoke"
    STANDARD = "standard"
    DEEP = "deep"
    DISRUPTIVE = "disruptive"

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
        kinds: driver kinds it applies to ("managed", "host", "image-store", "hypervisor", "fence").
        tier: the least of a run that includes it.
        what: its docstring; the first paragraph is what is true of a conformant driver.
        field_bug: the public bug that it would have caught, or "".
        since: version of the suite that brought it.
    """

    id: str
    level: Level
    rule: str
    kinds: tuple[str, ...]
    needs: tuple[type, ...] = ()
    tier: Tier = Tier.SMOKE
    what: str = ""
    field_bug: str = ""
    since: str = "1.0"

    @property
    def group(self) -> str:
        """First part of the id."""
        return self.id.partition(".")[0]

    @property
    def contract(self) -> str:
        """What is true of a conformant driver, in a sentence or two."""
        return " ".join(self.what.partition("\n\n")[0].split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A figure that a check took; `series` has (x, y) points where one number is not enough."""

    name: str
    value: float
    unit: str
    series: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One call of the driver, as the suite saw it; secrets are gone from its words.

    Attributes:
        at: seconds since the check began.
        call: method and arguments, short.
        seconds: how long it took.
        answer: the result in short, or the error's class, outcome and message.
        failed: whether it raised.
    """

    at: float
    call: str
    seconds: float
    answer: str = ""
    failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one check ended, with the words that an engineer needs.

    Attributes:
        started: seconds since the epoch.
        message: what is wrong, or why it was not run or does not apply.
        evidence: the driver's calls during the check, in order.
        reproducer: a stand-alone script that shows the failure, or "".
        ticket: of the known failure, or "".
    """

    check: Check
    result: Result
    seconds: float
    started: float = 0.0
    message: str = ""
    measures: tuple[Measure, ...] = ()
    evidence: tuple[CallRecord, ...] = ()
    reproducer: str = ""
    ticket: str = ""


# What keeps a MUST from counting as held, by what it says about the driver.
_BROKEN = frozenset({Result.FAIL, Result.ERROR})
_OPEN = frozenset({Result.KNOWN_FAIL, Result.NOT_RUN})


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """All outcomes of a run.

    Attributes:
        kind: of the driver: "managed", "host", "image-store", "hypervisor", "fence".
        run: ids of its ledgers, or "" if nothing was opened.
        seed: what all random choices of the run follow from.
        capabilities: those that the driver declares.
        artefact: SHA-256 over the driver's distribution, see `artefact.py`; "" if it has none.
    """

    driver: str
    distribution: str
    kind: str = ""
    tier: Tier = Tier.STANDARD
    run: str = ""
    seed: int = 0
    started: float = 0.0
    seconds: float = 0.0
    capabilities: tuple[str, ...] = ()
    artefact: str = ""
    outcomes: tuple[Outcome, ...] = field(default_factory=tuple)

    def count(self, result: Result) -> int:
        """Return how many checks ended so."""
        return sum(o.result is result for o in self.outcomes)

    @property
    def musts(self) -> list[Outcome]:
        """The outcomes that decide."""
        return [o for o in self.outcomes if o.check.level is Level.MUST]

    @property
    def clean(self) -> bool:
        """No MUST failed or was lost to an error, and something passed."""
        return holds(self.musts)

    @property
    def complete(self) -> bool:
        """Every MUST of tier standard and below ended, and none is a known failure."""
        return self.tier_decides and not is_open(self.musts)

    @property
    def tier_decides(self) -> bool:
        """Whether a run of this tier may end in a verdict."""
        return self.tier.includes(Tier.STANDARD)

    @property
    def conformant(self) -> bool:
        """Clean and complete: what a certificate may say."""
        return self.clean and self.complete

    def line(self) -> str:
        """Return the verdict in one line."""
        counts = ", ".join(f"{n} {r.value}" for r in Result if (n := self.count(r)))
        return f"{self.word()}: {self.driver} ({self.distribution or 'unknown distribution'}): {counts}"

    def word(self) -> str:
        """Return the verdict in a word or two; "INCOMPLETE" is no accusation: not all was looked at."""
        if not self.clean:
            return "NOT CONFORMANT"
        return "CONFORMANT" if self.complete else f"INCOMPLETE (tier {self.tier})"


def holds(outcomes: Iterable[Outcome]) -> bool:
    """Return whether something passed and nothing is broken."""
    results = [o.result for o in outcomes]
    return Result.PASS in results and not _BROKEN.intersection(results)


def is_open(outcomes: Iterable[Outcome]) -> bool:
    """Return whether one of these is a known failure or was not run."""
    return any(o.result in _OPEN for o in outcomes)
