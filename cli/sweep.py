"""`bollard sweep`: what nobody owns, on all pools and stores of the configuration."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, TypeVar

import typer

from ..core.mover import state_directory
from ..core.service.leftovers import End, Report, Run, Swept
from ..core.service.seen import Seen
from ..core.service.sweep import Sweep
from ..core.service.sweep_hosts import HostPlace
from ..core.service.sweep_increments import increment_places
from ..core.service.sweep_state import StatePlace
from . import context
from .context import JsonFlag
from .jobs import job
from .output import EXIT_CODES, err, out, print_json, report, show_rows, size_text

T = TypeVar("T")

FOUND = 12
"""Exit code: something was removed, or would have been."""

_WORDS = {End.FOUND: "would go", End.REMOVED: "removed", End.KEPT: "kept", End.FAILED: "failed"}


def sweep(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell; nothing is removed.")] = False,
    older_than: Annotated[
        float,
        typer.Option(min=0.0, help="Hours that something whose owner is not known must have been idle."),
    ] = 24.0,
    json: JsonFlag = False,
) -> None:
    """Remove what killed processes left on pools and stores; only what is Bollard's and nobody's any more."""
    configured = context.config(ctx)
    with context.site(ctx) as site, job(ctx, "sweeping", json) as call:
        work = Sweep(
            pools=_openers(partial(context.pool, ctx), configured.pools),
            stores=_openers(partial(context.store, ctx), configured.stores),
            hosts=_openers(partial(HostPlace.of, site), configured.hypervisors),
            places=[StatePlace(directory=state_directory()), *increment_places(site)],
            mover=context.mover(ctx),
            seen=Seen(state_directory() / "swept"),
        )
        found = work.run(Run(call=call, dry_run=dry_run, older_than=older_than * 3600.0))
    if json:
        print_json(_document(found, dry_run=dry_run))
    else:
        _tell(found)
    raise typer.Exit(_code(found))


def _openers(open_one: Callable[[str], T], names: Any) -> dict[str, Callable[[], T]]:
    return {name: partial(open_one, name) for name in names}


def _code(found: Report) -> int:
    errors = found.errors()
    if errors:
        return max(EXIT_CODES.get(error.code, 1) for error in errors)
    return FOUND if found.found() else 0


def _document(found: Report, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "leftovers": [_row(one) for one in found.swept],
        "errors": [one.error.to_json() | {"place": one.place} for one in found.failures],
    }


def _row(one: Swept) -> dict[str, Any]:
    what = one.leftover
    return {
        "place": what.place,
        "kind": what.kind,
        "name": what.name,
        "size": what.size,
        "age": None if what.age is None else round(what.age),
        "owner": what.owner,
        "why": what.why,
        "end": one.end.value,
        "reason": one.reason,
    }


def _tell(found: Report) -> None:
    rows = [
        _row(one)
        | {
            "size": "" if one.leftover.size is None else size_text(one.leftover.size),
            "age": "" if one.leftover.age is None else age_text(one.leftover.age),
            "end": _WORDS[one.end],
        }
        for one in found.swept
    ]
    show_rows(rows, as_json=False, empty="Nothing was left behind.")
    for failure in found.failures:
        err.print(f"{failure.place}:", end=" ", markup=False)
        report(failure.error, as_json=False)
    if found.failures:
        out.print("Not everything could be looked at; repeat the command.")


def age_text(seconds: float) -> str:
    """Return an age as a person reads it: 40 s, 12 min, 7 h, 3 d."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
