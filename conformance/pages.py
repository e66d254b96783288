"""A page per check, made of its docstring, the contract's sentence and the mutants that it kills.

SPI docstring "[rule.id] …" ──┐
check's docstring ────────────┼──> docs/checks/<id>.md, one link away from each report
mutation_score.json ──────────┘
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import groupby
from pathlib import Path

from ..core import spi
from .leaks import RUN_CHECKS
from .model import Check, Tier
from .profiles import profile_of
from .registry import all_checks

_SCORE = Path(__file__).with_name("mutation_score.json")
_RULE = re.compile(r"\[([a-z]+\.[a-z0-9-]+)\]\s*")
_ON_WHOLE_RUNS = "every kind that was opened"


def pages() -> Iterator[tuple[str, str]]:
    """Yield path and Markdown of the index and of each check's page."""
    checks = sorted((*all_checks(), *RUN_CHECKS), key=lambda c: c.id)
    yield "checks/index.md", _index(checks)
    for found in checks:
        yield f"checks/{found.id}.md", _page(found)


@cache
def sentences() -> Mapping[str, str]:
    """Return each sentence of the contract by its id, as the SPI's docstrings have it."""
    text = "\n".join(p.read_text(encoding="utf-8") for p in sorted(Path(spi.__file__).parent.glob("*.py")))
    found: dict[str, str] = {}
    marks = list(_RULE.finditer(text))
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        rest = text[mark.end() : following.start() if following else len(text)]
        sentence = " ".join(re.split(r'"""|\n\s*\n', rest)[0].split())
        found.setdefault(mark[1], sentence.rstrip(" ,"))
    return found


@cache
def _killed() -> Mapping[str, list[str]]:
    by_check: dict[str, list[str]] = json.loads(_SCORE.read_text(encoding="utf-8")).get("by_check", {})
    return by_check


def _index(checks: list[Check]) -> str:
    lines = [
        "# All checks",
        "",
        f"{len(checks)} checks; `bollard conformance explain ID` shows the same.",
        "",
    ]
    for group, members in groupby(checks, key=lambda c: c.group):
        lines += [
            f"## {group}",
            "",
            "| check | level | tier | true of a conformant driver |",
            "|---|---|---|---|",
        ]
        lines += [f"| [{c.id}]({c.id}.md) | {c.level} | {c.tier} | {_cell(c.contract)} |" for c in members]
        lines.append("")
    return "\n".join(lines)


def _page(found: Check) -> str:
    contract, _, rest = found.what.partition("\n\n")
    parts = [f"# {found.id}", " ".join(contract.split())]
    if rest:
        parts += ["## Why, and how to read a failure", rest]
    parts += ["## The contract", f"`[{found.rule}]` {sentences().get(found.rule, '')}"]
    if found.field_bug:
        parts += ["## Seen in the field", found.field_bug]
    parts += ["## Proven by", _mutants(found), "## Facts", _facts(found), "## Run it alone", _alone(found)]
    return "\n\n".join(parts) + "\n"


def _mutants(found: Check) -> str:
    mutants = _killed().get(found.id, [])
    if not mutants:
        return "No mutant: it is not a MUST, and decides no verdict."
    names = ", ".join(f"`{name}`" for name in mutants)
    return f"It fails on these [mutants](../mutants.md), as it should: {names}."


def _facts(found: Check) -> str:
    rows = {
        "level": found.level.value,
        "tier": found.tier.value,
        "profile": profile_of(found).title,
        "drivers": ", ".join(found.kinds) or _ON_WHOLE_RUNS,
        "needs": ", ".join(mixin.__name__ for mixin in found.needs) or "nothing",
        "since": f"suite {found.since}",
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def _alone(found: Check) -> str:
    if not found.kinds:
        return "It is told at the end of each run: repeat the check that its message names."
    more = "" if found.tier in (Tier.STATIC, Tier.SMOKE, Tier.STANDARD) else f" --tier {found.tier}"
    return f"```\nbollard conformance run --config acme.toml --select {found.id}{more}\n```"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
