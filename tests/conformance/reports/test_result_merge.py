"""Shards of one run sum to the whole; shards of two runs do not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from bollard.conformance.leaks import RUN_CHECKS
from bollard.conformance.model import Outcome, Result, Verdict
from bollard.conformance.reports import environment, merge, merge_stored
from bollard.conformance.reports.result import StoredResult
from bollard.core.spi import Conflict, InvalidArgument

Maker = Callable[..., Verdict]


def _shard(whole: Verdict, index: int, count: int) -> Verdict:
    """What `--shard` leaves of a run: all other checks are not run."""
    outcomes = tuple(
        o
        if i % count == index
        else dataclasses.replace(o, result=Result.NOT_RUN, seconds=0.0, message="shard")
        for i, o in enumerate(whole.outcomes)
    )
    return dataclasses.replace(
        whole, run=f"run-{index}", started=100.0 + index, seconds=10.0, outcomes=outcomes
    )


@pytest.mark.parametrize("count", [1, 2, 5])
def test_shards_sum_to_the_whole(make_verdict: Maker, count: int) -> None:
    """Every outcome of the whole run is there once, however many shards it had."""
    whole = make_verdict(broken=True)
    merged = merge([_shard(whole, i, count) for i in range(count)])

    assert merged.outcomes == tuple(sorted(whole.outcomes, key=lambda o: o.check.id))
    assert merged.line() == whole.line()


def test_time_and_runs(make_verdict: Maker) -> None:
    """The run took from the first beginning to the last end, and names all ledgers."""
    merged = merge([_shard(make_verdict(), i, 3) for i in range(3)])

    assert (merged.started, merged.seconds, merged.run) == (100.0, 12.0, "run-0,run-1,run-2")


def test_a_lost_shard_shows(make_verdict: Maker) -> None:
    """What no shard ran is still not run, so the verdict is incomplete and not conformant."""
    merged = merge([_shard(make_verdict(), i, 3) for i in range(2)])

    assert merged.count(Result.NOT_RUN) > 0
    assert not merged.conformant


def test_run_twice(make_verdict: Maker) -> None:
    """The same shard twice is an error: which of the two would count?"""
    shard = _shard(make_verdict(), 0, 2)

    with pytest.raises(Conflict, match=r"check \S+ was run twice: pass in one, pass in another"):
        merge([shard, shard])


@pytest.mark.parametrize(
    "other",
    [
        {"driver": "b"},
        {"seed": 1},
        {"artefact": "00" * 32},
        {"capabilities": ()},
        {"distribution": "acme-bollard 1.3"},
    ],
)
def test_other_runs(make_verdict: Maker, other: dict[str, Any]) -> None:
    """Runs of different drivers, artefacts, seeds … are told apart by name."""
    whole = make_verdict()

    with pytest.raises(Conflict, match=next(iter(other))):
        merge([_shard(whole, 0, 2), dataclasses.replace(_shard(whole, 1, 2), **other)])


def test_other_suite(make_verdict: Maker) -> None:
    """Shards of two versions of the suite are no shards of one run."""
    here = environment()
    shards = [_shard(make_verdict(), i, 2) for i in range(2)]
    stored = [
        StoredResult(verdict=shards[0], environment=here),
        StoredResult(verdict=shards[1], environment=dataclasses.replace(here, suite="9.9")),
    ]

    with pytest.raises(Conflict, match=r"9\.9"):
        merge_stored(stored)
    assert merge_stored(stored[:1]).environment == here


def test_nothing_to_merge() -> None:
    """No shard at all is bad input."""
    with pytest.raises(InvalidArgument, match="nothing"):
        merge([])


@pytest.mark.parametrize(
    ("one", "other", "left"),
    [
        (Result.PASS, Result.FAIL, Result.FAIL),
        (Result.FAIL, Result.PASS, Result.FAIL),
        (Result.PASS, Result.NOT_RUN, Result.PASS),
        (Result.ERROR, Result.PASS, Result.ERROR),
    ],
)
def test_the_audit_of_every_shard_counts(
    make_verdict: Maker, one: Result, other: Result, left: Result
) -> None:
    """What is said of the whole run is said by every shard: the worst counts."""
    verdict = make_verdict()

    def with_audit(result: Result) -> Verdict:
        audit = Outcome(check=RUN_CHECKS[0], result=result, seconds=0.0, message=result.value)
        return dataclasses.replace(verdict, outcomes=(audit,))

    assert [o.result for o in merge([with_audit(one), with_audit(other)]).outcomes] == [left]


def test_both_leaks_are_told(make_verdict: Maker) -> None:
    """When two shards leak, both messages are there."""
    leaks = [
        dataclasses.replace(
            make_verdict(),
            outcomes=(
                Outcome(check=RUN_CHECKS[0], result=Result.FAIL, seconds=0.0, message=f"volume {i} is left"),
            ),
        )
        for i in range(2)
    ]

    assert merge(leaks).outcomes[0].message == "volume 0 is left; volume 1 is left"
