"""An outcome as JSON text: how xdist's workers tell theirs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from .leaks import RUN_CHECKS
from .model import CallRecord, Measure, Outcome, Result
from .registry import all_checks


def dump_outcome(outcome: Outcome) -> str:
    """Return an outcome as text; its check becomes an id, which every process knows."""
    return json.dumps(
        asdict(replace(outcome, check=replace(outcome.check, needs=()))) | {"check": outcome.check.id}
    )


def load_outcome(text: str) -> Outcome:
    """Return the outcome of `dump_outcome`."""
    plain = json.loads(text)
    known = {c.id: c for c in (*all_checks(), *RUN_CHECKS)}
    given = dict(plain) | {
        "check": known[plain["check"]],
        "result": Result(plain["result"]),
        "measures": tuple(Measure(**_tuples(m, "series")) for m in plain["measures"]),
        "evidence": tuple(CallRecord(**r) for r in plain["evidence"]),
    }
    return Outcome(**given)


def _tuples(measure: Mapping[str, Any], name: str) -> dict[str, Any]:
    return dict(measure) | {name: tuple((x, y) for x, y in measure[name])}


def joined(outcomes: list[Outcome]) -> list[Outcome]:
    """Join what several workers say of one check of the whole run: one failure is a failure."""
    found: dict[str, Outcome] = {}
    for outcome in outcomes:
        before = found.get(outcome.check.id)
        if before is not None and Result.FAIL in (before.result, outcome.result):
            message = "; ".join(o.message for o in (before, outcome) if o.result is Result.FAIL)
            outcome = replace(outcome, result=Result.FAIL, message=message)
        found[outcome.check.id] = outcome
    return list(found.values())
