"""What stands between a result and its certificate, each with the sentence of the contract that is open."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ..model import Check, Level, Outcome, Result, Verdict
from ..profiles import Profile, by_profile, chosen_profiles, profile_of

_STANDS_IN_THE_WAY = (Result.FAIL, Result.KNOWN_FAIL, Result.ERROR, Result.NOT_RUN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """Why there is no certificate; `check` is "" if it is about the run as a whole."""

    check: str
    result: str
    sentence: str
    message: str


def is_open(outcome: Outcome) -> bool:
    """Return whether an outcome keeps its profile from a certificate."""
    return outcome.check.level is Level.MUST and outcome.result in _STANDS_IN_THE_WAY


def claimable(verdict: Verdict) -> tuple[Profile, ...]:
    """Return the profiles that a vendor claims by declaring its capabilities: all that are not refused."""
    return tuple(p.profile for p in by_profile(verdict) if p.word != "refused")


def claimed_profiles(verdict: Verdict, names: Sequence[str]) -> tuple[Profile, ...]:
    """Return the profiles of these names, core among them; all that are claimable if none is named.

    Raises:
        InvalidArgument: a name is unknown.
    """
    return chosen_profiles(names) if names else claimable(verdict)


def obstacles(verdict: Verdict, claimed: Collection[Profile], suite: Collection[Check]) -> list[Obstacle]:
    """Return everything that stands between a result and its certificate.

    Args:
        suite: all checks of this suite: one that the result does not even name was lost.
    """
    of_run = []
    if not verdict.tier_decides:
        of_run.append(_of_run(f"a run of tier {verdict.tier} decides nothing: run tier standard or more"))
    if not verdict.artefact:
        of_run.append(_of_run("nothing to bind it to: the driver belongs to no installed distribution"))
    return [
        *of_run,
        *_unsupported(verdict, claimed),
        *_open(verdict, claimed),
        *_lost(verdict, claimed, suite),
    ]


def _of_run(message: str) -> Obstacle:
    return Obstacle(check="", result="", sentence="", message=message)


def _unsupported(verdict: Verdict, claimed: Collection[Profile]) -> list[Obstacle]:
    """A profile is claimed that the driver refuses, or that no check of the run was about."""
    words = {p.profile: p.word for p in by_profile(verdict)}
    return [
        _of_run(f"profile {p.title}: the driver declares none of its capabilities, or the run left it out")
        for p in claimed
        if words.get(p, "refused") == "refused"
    ]


def _open(verdict: Verdict, claimed: Collection[Profile]) -> list[Obstacle]:
    return [
        Obstacle(check=o.check.id, result=o.result, sentence=o.check.contract, message=o.message)
        for o in verdict.outcomes
        if is_open(o) and profile_of(o.check) in claimed
    ]


def _lost(verdict: Verdict, claimed: Collection[Profile], suite: Collection[Check]) -> list[Obstacle]:
    there = {o.check.id for o in verdict.outcomes}
    return [
        Obstacle(check=c.id, result="missing", sentence=c.contract, message="the result does not name it")
        for c in suite
        if c.level is Level.MUST
        and verdict.kind in c.kinds
        and verdict.tier.includes(c.tier)
        and profile_of(c) in claimed
        and c.id not in there
    ]
