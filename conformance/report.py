"""A verdict on paper: result.json, and the lines that a person reads first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .model import Outcome, Result, Verdict

FORMAT = 1


def result_json(verdict: Verdict) -> dict[str, Any]:
    """Return the whole verdict as plain JSON values."""
    return {
        "format": FORMAT,
        "run": verdict.run,
        "driver": verdict.driver,
        "distribution": verdict.distribution,
        "conformant": verdict.conformant,
        "verdict": verdict.line(),
        "counts": {r.value: verdict.count(r) for r in Result},
        "checks": [_check(o) for o in verdict.outcomes],
    }


def _check(outcome: Outcome) -> dict[str, Any]:
    return {
        "id": outcome.check.id,
        "level": outcome.check.level.value,
        "rule": outcome.check.rule,
        "what": outcome.check.what,
        "result": outcome.result.value,
        "seconds": round(outcome.seconds, 3),
        "message": outcome.message,
    }


def write_result(verdict: Verdict, path: Path) -> None:
    """Write result.json."""
    path.write_text(json.dumps(result_json(verdict), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
