"""result.json: the whole verdict as data, and back.

    Verdict ── result_json ──> result.json ── read_result ──> StoredResult(verdict, environment)

The file is described by result.schema.json (JSON Schema 2020-12), which ships with the package. Whatever
follows from the rest (contract, group, profile, counts, the verdict's words) is written for readers in other
languages, and computed anew when it is read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ...core.spi import MIXINS, InvalidArgument
from ..model import CallRecord, Check, Level, Measure, Outcome, Result, Tier, Verdict
from ..profiles import by_profile, profile_of
from .environment import Environment, environment

FORMAT = 1
SCHEMA = Path(__file__).parents[1] / "result.schema.json"

_NEEDS = {str(mixin.__dict__["provides"]): mixin for mixin in MIXINS}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResult:
    """What a result.json says: the verdict, and what it was made with."""

    verdict: Verdict
    environment: Environment


def result_json(verdict: Verdict, made_with: Environment | None = None) -> dict[str, Any]:
    """Return the whole verdict as plain JSON values.

    Args:
        made_with: versions and machine of the run; those of this process by default.
    """
    return {
        "format": FORMAT,
        "run": verdict.run,
        "driver": verdict.driver,
        "distribution": verdict.distribution,
        "kind": verdict.kind,
        "artefact": verdict.artefact,
        "tier": verdict.tier.value,
        "seed": verdict.seed,
        "started": _number(verdict.started),
        "seconds": _number(verdict.seconds),
        "capabilities": list(verdict.capabilities),
        "conformant": verdict.conformant,
        "verdict": verdict.line(),
        "counts": {r.value: verdict.count(r) for r in Result},
        "profiles": [_profile(p) for p in by_profile(verdict)],
        "environment": asdict(made_with or environment()),
        "checks": [_outcome(o) for o in verdict.outcomes],
    }


def result_bytes(verdict: Verdict, made_with: Environment | None = None) -> bytes:
    """Return result.json as it is written to disk."""
    text = json.dumps(result_json(verdict, made_with), indent=2, ensure_ascii=False, allow_nan=False)
    # A file name that is no UTF-8 reaches us as lone surrogates; as `\udc80` they are JSON all the same.
    return (text + "\n").encode("utf-8", "backslashreplace")


def write_result(verdict: Verdict, path: Path) -> None:
    """Write result.json."""
    path.write_bytes(result_bytes(verdict))


def read_result(path: Path) -> StoredResult:
    """Read a result.json.

    Raises:
        InvalidArgument: it cannot be read, or see `stored_result`.
    """
    try:
        return stored_result(path.read_bytes(), str(path))
    except OSError as error:
        raise InvalidArgument(f"cannot read {path}: {error.strerror or error}") from error


def stored_result(data: bytes, name: str = "result.json") -> StoredResult:
    """Read the bytes of a result.json.

    Raises:
        InvalidArgument: it is no JSON, of another format, or breaks the schema.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{name} is no JSON: {error}") from error
    verdict = verdict_of(value, name)
    return StoredResult(verdict=verdict, environment=Environment(**value["environment"]))


def verdict_of(value: Any, name: str = "result.json") -> Verdict:
    """Return the verdict that `result_json` was given.

    Raises:
        InvalidArgument: the format is unknown, or the schema is broken; the message says where.
    """
    _demand_schema(value, name)
    return Verdict(
        driver=value["driver"],
        distribution=value["distribution"],
        kind=value["kind"],
        tier=Tier(value["tier"]),
        run=value["run"],
        seed=value["seed"],
        started=_figure(value["started"]),
        seconds=_figure(value["seconds"]),
        capabilities=tuple(value["capabilities"]),
        artefact=value["artefact"],
        outcomes=tuple(_outcome_of(o) for o in value["checks"]),
    )


def result_schema() -> dict[str, Any]:
    """Return the JSON Schema of result.json."""
    found: dict[str, Any] = json.loads(SCHEMA.read_bytes())
    return found


def _demand_schema(value: Any, name: str) -> None:
    found = value.get("format") if isinstance(value, dict) else None
    if found is None:
        raise InvalidArgument(f"{name} names no format, this suite reads {FORMAT}: is it a result.json?")
    if found != FORMAT:
        raise InvalidArgument(
            f"{name} has format {found!r}, this suite reads {FORMAT}: use the suite it is from"
        )
    broken = next(_validator().iter_errors(value), None)
    if broken is not None:
        raise InvalidArgument(f"{name} breaks its schema at {broken.json_path}: {broken.message[:200]}")


@cache
def _validator() -> Any:
    import jsonschema  # 60 ms, and only who reads a result needs it

    return jsonschema.Draft202012Validator(result_schema())


def _profile(found: Any) -> dict[str, Any]:
    profile = found.profile
    return {
        "name": profile.name,
        "title": profile.title,
        "version": profile.version,
        "verdict": found.word,
        "checks": len(found.outcomes),
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    check = outcome.check
    return {
        "id": check.id,
        "group": check.group,
        "profile": profile_of(check).name,
        "level": check.level.value,
        "tier": check.tier.value,
        "rule": check.rule,
        "kinds": list(check.kinds),
        "needs": [str(need.__dict__["provides"]) for need in check.needs],
        "contract": check.contract,
        "what": check.what,
        "field_bug": check.field_bug,
        "since": check.since,
        "result": outcome.result.value,
        "seconds": _number(outcome.seconds),
        "started": _number(outcome.started),
        "message": outcome.message,
        "ticket": outcome.ticket,
        "measures": [_measure(m) for m in outcome.measures],
        "evidence": [_call(c) for c in outcome.evidence],
        "reproducer": outcome.reproducer,
    }


def _measure(measure: Measure) -> dict[str, Any]:
    series = [[_number(x), _number(y)] for x, y in measure.series]
    return {"name": measure.name, "value": _number(measure.value), "unit": measure.unit, "series": series}


def _call(call: CallRecord) -> dict[str, Any]:
    return {
        "at": _number(call.at),
        "call": call.call,
        "seconds": _number(call.seconds),
        "answer": call.answer,
        "failed": call.failed,
    }


def _outcome_of(value: Mapping[str, Any]) -> Outcome:
    return Outcome(
        check=_check_of(value),
        result=Result(value["result"]),
        seconds=_figure(value["seconds"]),
        started=_figure(value["started"]),
        message=value["message"],
        ticket=value["ticket"],
        measures=tuple(_measure_of(m) for m in value["measures"]),
        evidence=tuple(_call_of(c) for c in value["evidence"]),
        reproducer=value["reproducer"],
    )


def _check_of(value: Mapping[str, Any]) -> Check:
    return Check(
        id=value["id"],
        level=Level(value["level"]),
        rule=value["rule"],
        kinds=tuple(value["kinds"]),
        # A capability that this suite does not know yet says nothing about the verdict.
        needs=tuple(_NEEDS[need] for need in value["needs"] if need in _NEEDS),
        tier=Tier(value["tier"]),
        what=value["what"],
        field_bug=value["field_bug"],
        since=value["since"],
    )


def _measure_of(value: Mapping[str, Any]) -> Measure:
    series = tuple((_figure(x), _figure(y)) for x, y in value["series"])
    return Measure(name=value["name"], value=_figure(value["value"]), unit=value["unit"], series=series)


def _call_of(value: Mapping[str, Any]) -> CallRecord:
    at, seconds = _figure(value["at"]), _figure(value["seconds"])
    return CallRecord(
        at=at, call=value["call"], seconds=seconds, answer=value["answer"], failed=value["failed"]
    )


def _number(value: float) -> float | None:
    """JSON has no NaN and no infinity: one bad figure may not cost the whole report."""
    return value if math.isfinite(value) else None


def _figure(value: float | None) -> float:
    return math.nan if value is None else float(value)
