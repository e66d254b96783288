"""Joining the shards of one run: `--shard 1/3`, `2/3` and `3/3` sum to the whole.

    shard 1   pass     not-run  not-run
    shard 2   not-run  fail     not-run      ->   pass  fail  pass
    shard 3   not-run  not-run  pass

What is said of a whole run (no leak, no false claim) every shard says for itself: the worst of them counts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ...core.spi import Conflict, InvalidArgument
from ..leaks import RUN_CHECKS
from ..model import Outcome, Result, Verdict
from .result import StoredResult

_SAME = ("driver", "distribution", "kind", "tier", "seed", "artefact", "capabilities")
_OF_RUNS = frozenset(check.id for check in RUN_CHECKS)
# Worst first.
_ORDER = (
    Result.FAIL,
    Result.ERROR,
    Result.KNOWN_FAIL,
    Result.PASS,
    Result.REFUSED,
    Result.NOT_APPLICABLE,
    Result.NOT_RUN,
)


def merge(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict of the run whose shards these are.

    Raises:
        InvalidArgument: none is given.
        Conflict: they are of different runs, or a check was run twice.
    """
    if not verdicts:
        raise InvalidArgument("there is nothing to merge")
    first = verdicts[0]
    for other in verdicts[1:]:
        _demand_same(first, other)
    began = min(v.started for v in verdicts)
    return dataclasses.replace(
        first,
        run=",".join(v.run for v in verdicts if v.run),
        started=began,
        seconds=max(v.started + v.seconds for v in verdicts) - began,
        outcomes=_joined([o for v in verdicts for o in v.outcomes]),
    )


def merge_stored(results: Sequence[StoredResult]) -> StoredResult:
    """Return the result of the run whose shards these are; Python and platform are the first shard's.

    Raises:
        InvalidArgument, Conflict: see `merge`; other versions of suite, contract or interface, too.
    """
    merged = merge([r.verdict for r in results])
    versions = {(r.environment.suite, r.environment.spec, r.environment.spi) for r in results}
    if len(versions) > 1:
        told = " and ".join(sorted("/".join(v) for v in versions))
        raise Conflict(f"these are no shards of one run: suite/contract/interface are {told}")
    return StoredResult(verdict=merged, environment=results[0].environment)


def _demand_same(first: Verdict, other: Verdict) -> None:
    for name in _SAME:
        ours, theirs = getattr(first, name), getattr(other, name)
        if ours != theirs:
            raise Conflict(
                f"these are no shards of one run: {name} is {ours!r} in one, {theirs!r} in another"
            )


def _joined(outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
    found: dict[str, Outcome] = {}
    for outcome in outcomes:
        before = found.get(outcome.check.id)
        found[outcome.check.id] = outcome if before is None else _one_of(before, outcome)
    return tuple(found[id_] for id_ in sorted(found))


def _one_of(before: Outcome, after: Outcome) -> Outcome:
    if before.check.id in _OF_RUNS:
        return _worst(before, after)
    if Result.NOT_RUN not in (before.result, after.result):
        raise Conflict(
            f"check {before.check.id} was run twice: {before.result} in one, {after.result} in another"
        )
    return after if before.result is Result.NOT_RUN else before


def _worst(one: Outcome, other: Outcome) -> Outcome:
    worse, better = sorted((one, other), key=lambda o: _ORDER.index(o.result))
    if worse.result is better.result and worse.message != better.message:
        message = "; ".join(m for m in (worse.message, better.message) if m)
        return dataclasses.replace(worse, message=message, evidence=worse.evidence + better.evidence)
    return worse
