"""result.json holds the whole verdict, keeps to its schema, and reads back as what it was."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bollard.conformance.model import CallRecord, Check, Level, Measure, Outcome, Result, Tier, Verdict
from bollard.conformance.reports import (
    read_result,
    result_bytes,
    result_json,
    result_schema,
    stored_result,
    verdict_of,
    write_result,
)
from bollard.core.spi import MIXINS, SPI_VERSION, InvalidArgument

Maker = Callable[..., Verdict]

# Any text a driver may write; U+DC80 to U+DCFF is what Python makes of a file name that is no UTF-8.
UNDECODABLE = st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF, categories=["Cs"])
TEXT = st.text(max_size=20) | st.text(UNDECODABLE | st.characters(categories=["Cc", "Cf"]), max_size=5)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)

CHECKS = st.builds(
    Check,
    id=st.from_regex(r"[a-z]{2,6}\.[a-z_]{2,9}", fullmatch=True),
    level=st.sampled_from(Level),
    rule=TEXT,
    kinds=st.lists(st.sampled_from(["managed", "host"]), unique=True).map(tuple),
    needs=st.lists(st.sampled_from(MIXINS), unique=True, max_size=3).map(tuple),
    tier=st.sampled_from(Tier),
    what=TEXT,
    field_bug=TEXT,
    since=st.sampled_from(["1.0", "1.1"]),
)
MEASURES = st.builds(
    Measure,
    name=TEXT,
    value=NUMBER,
    unit=TEXT,
    series=st.lists(st.tuples(NUMBER, NUMBER), max_size=3).map(tuple),
)
CALLS = st.builds(CallRecord, at=NUMBER, call=TEXT, seconds=NUMBER, answer=TEXT, failed=st.booleans())
OUTCOMES = st.builds(
    Outcome,
    check=CHECKS,
    result=st.sampled_from(Result),
    seconds=NUMBER,
    started=NUMBER,
    message=TEXT,
    measures=st.lists(MEASURES, max_size=2).map(tuple),
    evidence=st.lists(CALLS, max_size=2).map(tuple),
    reproducer=TEXT,
    ticket=TEXT,
)
VERDICTS = st.builds(
    Verdict,
    driver=TEXT,
    distribution=TEXT,
    kind=st.sampled_from(["", "managed"]),
    tier=st.sampled_from(Tier),
    run=TEXT,
    seed=st.integers(),
    started=NUMBER,
    seconds=NUMBER,
    capabilities=st.lists(TEXT, max_size=3).map(tuple),
    artefact=st.sampled_from(["", "0f" * 32]),
    outcomes=st.lists(OUTCOMES, max_size=3).map(tuple),
)


@given(VERDICTS)
def test_round_trip(verdict: Verdict) -> None:
    """Whatever a verdict holds, its file reads back as the same verdict, and keeps to the schema."""
    data = result_bytes(verdict)

    assert stored_result(data).verdict == verdict
    assert jsonschema.Draft202012Validator(result_schema()).is_valid(json.loads(data))


def test_schema_is_one() -> None:
    """The published schema is a JSON Schema of 2020-12."""
    jsonschema.Draft202012Validator.check_schema(result_schema())
    assert result_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_file_round_trip(make_verdict: Maker, tmp_path: Path) -> None:
    """A run's file gives back verdict and environment."""
    verdict = make_verdict(broken=True)
    write_result(verdict, tmp_path / "result.json")
    stored = read_result(tmp_path / "result.json")

    assert stored.verdict == verdict
    assert stored.environment.spi == ".".join(map(str, SPI_VERSION))


def test_what_readers_in_other_languages_need(make_verdict: Maker) -> None:
    """What follows from the outcomes is told, too: counts, profiles, the verdict's words, contracts."""
    told = result_json(make_verdict(broken=True))
    check = next(c for c in told["checks"] if c["id"] == "vol.list_complete")

    assert told["conformant"] is False
    assert told["verdict"].startswith("NOT CONFORMANT: acme (acme-bollard 1.2)")
    assert told["counts"]["fail"] == 1
    assert {p["name"]: p["verdict"] for p in told["profiles"]}["qos"] == "refused"
    assert check["contract"] == "Every volume of the pool is listed once, whatever their number."
    assert (check["group"], check["profile"], check["level"]) == ("vol", "core", "must")


def test_a_figure_that_is_none_costs_no_report(make_verdict: Maker) -> None:
    """A figure that is not finite becomes null, and reads back as not a number."""
    bad = (Measure(name="ratio", value=math.inf, unit="x", series=((1.0, math.nan),)),)
    verdict = make_verdict(change={"vol.list_complete": {"measures": bad}})
    read = verdict_of(json.loads(result_bytes(verdict)))
    measure = next(m for o in read.outcomes for m in o.measures)

    assert math.isnan(measure.value)
    assert math.isnan(measure.series[0][1])


@pytest.mark.parametrize("found", [2, "1", None])
def test_unknown_format(make_verdict: Maker, found: object) -> None:
    """A file of another format is refused by name, not misread."""
    with pytest.raises(InvalidArgument, match="this suite reads 1"):
        verdict_of(result_json(make_verdict()) | {"format": found})


def test_broken_file_says_where(make_verdict: Maker) -> None:
    """A value that breaks the schema is told by its path."""
    value = result_json(make_verdict())
    value["checks"][3]["result"] = "passed"

    with pytest.raises(InvalidArgument, match=r"\$\.checks\[3\]\.result"):
        verdict_of(value)


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 100_000, b"\xff"])
def test_no_json(tmp_path: Path, data: bytes) -> None:
    """A file that is no JSON, and one that is not there, are bad input."""
    (tmp_path / "result.json").write_bytes(data)

    with pytest.raises(InvalidArgument, match="no JSON"):
        read_result(tmp_path / "result.json")
    with pytest.raises(InvalidArgument, match="cannot read"):
        read_result(tmp_path / "none.json")


def test_capability_of_a_newer_suite(make_verdict: Maker) -> None:
    """A need that this suite does not know is left out; the verdict stays what it was."""
    verdict = make_verdict()
    value: dict[str, Any] = result_json(verdict)
    value["checks"][0]["needs"] = ["teleportation"]
    read = verdict_of(value)

    assert read.outcomes[0].check == replace(verdict.outcomes[0].check, needs=())
    assert read.line() == verdict.line()
