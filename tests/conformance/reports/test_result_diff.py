"""The difference of two runs names what got worse, what got better, and which figures moved."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from bollard.conformance.model import Level, Measure, Result, Verdict
from bollard.conformance.reports import difference

Maker = Callable[..., Verdict]
CHECK = "vol.new_reads_zero"


def _with(make_verdict: Maker, result: Result) -> Verdict:
    return make_verdict(change={CHECK: {"result": result, "message": "why"}})


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        (Result.PASS, Result.FAIL, "worse"),
        (Result.PASS, Result.ERROR, "worse"),
        (Result.PASS, Result.KNOWN_FAIL, "worse"),
        (Result.REFUSED, Result.FAIL, "worse"),
        (Result.PASS, Result.REFUSED, "worse"),
        (Result.PASS, Result.NOT_RUN, "worse"),
        (Result.FAIL, Result.PASS, "better"),
        (Result.KNOWN_FAIL, Result.PASS, "better"),
        (Result.FAIL, Result.KNOWN_FAIL, "other"),
        (Result.REFUSED, Result.PASS, "other"),
        (Result.NOT_RUN, Result.PASS, "other"),
    ],
)
def test_kinds_of_change(make_verdict: Maker, old: Result, new: Result, kind: str) -> None:
    """Each change is a regression, a fix or neither, and is told once."""
    found = difference(_with(make_verdict, old), _with(make_verdict, new))
    told = {"worse": found.regressions, "better": found.fixes, "other": found.others}

    assert {k: [c.check.id for c in v] for k, v in told.items()} == {
        k: [CHECK] if k == kind else [] for k in told
    }


def test_same(make_verdict: Maker) -> None:
    """Two equal runs differ in nothing."""
    found = difference(make_verdict(broken=True), make_verdict(broken=True))

    assert found == dataclasses.replace(found, changes=(), added=(), removed=(), measures=())


def test_new_and_removed(make_verdict: Maker) -> None:
    """A check that only one run has is neither a regression nor a fix, even if it fails."""
    verdict = _with(make_verdict, Result.FAIL)
    without = dataclasses.replace(verdict, outcomes=tuple(o for o in verdict.outcomes if o.check.id != CHECK))

    assert [o.check.id for o in difference(without, verdict).added] == [CHECK]
    assert [o.check.id for o in difference(verdict, without).removed] == [CHECK]
    assert difference(without, verdict).regressions == []


@pytest.mark.parametrize(
    ("old", "new", "percent"),
    [(10.0, 13.0, 30.0), (10.0, 7.0, -30.0), (10.0, 11.9, None), (0.0, 1.0, float("inf")), (5.0, 5.0, None)],
)
def test_figures(make_verdict: Maker, old: float, new: float, percent: float | None) -> None:
    """A figure is told when it moved by more than a fifth."""
    before, after = (
        make_verdict(change={CHECK: {"measures": (Measure(name="m", value=v, unit="ms"),)}})
        for v in (old, new)
    )
    found = difference(before, after)

    assert [round(m.percent) if m.old else m.percent for m in found.measures] == (
        [] if percent is None else [percent]
    )


def test_a_figure_is_no_regression(make_verdict: Maker) -> None:
    """A check that only measures decides nothing here either."""

    def measured(result: Result) -> Verdict:
        verdict = _with(make_verdict, result)
        outcomes = (
            dataclasses.replace(o, check=dataclasses.replace(o.check, level=Level.MEASURE))
            for o in verdict.outcomes
        )
        return dataclasses.replace(verdict, outcomes=tuple(outcomes))

    assert difference(measured(Result.PASS), measured(Result.ERROR)).regressions == []
