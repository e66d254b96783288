"""`bollard conformance checks` and `explain`: what the suite looks at, without running it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..conformance.leaks import RUN_CHECKS
from ..conformance.model import Check
from ..conformance.profiles import profile_of
from ..conformance.registry import all_checks
from ..core.plugins import KINDS
from ..core.spi import NotFound
from ..transfer_objects.errors import did_you_mean
from .context import JsonFlag
from .output import out, print_json, show_rows


def list_checks(
    kind: Annotated[str, typer.Option(help=f"Only those for a kind of driver: {', '.join(KINDS)}.")] = "",
    json: JsonFlag = False,
) -> None:
    """List the checks with level, tier and the sentence that each of them tests."""
    checks = [c for c in all_checks() if not kind or kind in c.kinds]
    show_rows([_row(c, whole=json) for c in checks], as_json=json, empty=f"No check is for kind {kind!r}.")


def explain_check(
    check: Annotated[str, typer.Argument(help="Its id, e.g. vol.clone_independent.")], json: JsonFlag = False
) -> None:
    """Tell what a check demands, why, and how to read its failure."""
    checks = {c.id: c for c in (*all_checks(), *RUN_CHECKS)}
    if check not in checks:
        raise NotFound(f"no check is called {check!r}; {did_you_mean(check, list(checks))}")
    row = _row(checks[check], whole=True)
    if json:
        print_json(row)
        return
    for name, value in row.items():
        out.print(f"[bold]{name}[/]: ", end="")
        out.print(", ".join(value) if isinstance(value, list) else str(value), markup=False)


def _row(found: Check, *, whole: bool) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": found.id,
        "level": found.level.value,
        "tier": found.tier.value,
        "contract": found.contract,
    }
    if whole:
        row |= {
            "profile": profile_of(found).name,
            "rule": found.rule,
            "kinds": list(found.kinds),
            "needs": [mixin.__name__ for mixin in found.needs],
            "what": found.what,
            "field_bug": found.field_bug,
            "since": found.since,
        }
    return row
