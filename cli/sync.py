"""`bollard sync`: what is in a transient state ends at rest, by what the backends say."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from ..core.service.recovery import open_services
from ..core.service.sync import SyncReport
from . import context
from .context import JsonFlag
from .jobs import job
from .output import EXIT_CODES, err, out, print_json, report, show_rows


def sync(
    ctx: typer.Context,
    vm: Annotated[str, typer.Option(help="Only what belongs to this VM.")] = "",
    host: Annotated[str, typer.Option(help="Only what happens on this host, and its VMs'.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell; nothing is changed.")] = False,
    json: JsonFlag = False,
) -> None:
    """End what dead processes left under way: volumes, templates, VM snapshots, volume snapshots."""
    with (
        context.site(ctx) as site,
        open_services(site) as services,
        job(ctx, "syncing", json, steps=True) as call,
    ):
        found = services.sync().run(call, vm=vm, host=host, dry_run=dry_run)
    if json:
        print_json(_document(found, dry_run=dry_run))
    else:
        _tell(found, dry_run=dry_run)
    raise typer.Exit(_code(found))


def _code(found: SyncReport) -> int:
    if found.errors:
        return max(EXIT_CODES.get(error.code, 1) for error in found.errors)
    return EXIT_CODES["busy"] if found.problems() else 0


def _document(found: SyncReport, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "found": [{"kind": one.kind, "id": one.id, "what": one.what} for one in found.planned],
        "ended": [asdict(one) for one in found.ended],
        "errors": [error.to_json() for error in found.errors],
    }


def _tell(found: SyncReport, *, dry_run: bool) -> None:
    if dry_run:
        rows: list[dict[str, Any]] = [
            {"kind": one.kind, "id": one.id, "under way": one.what} for one in found.planned
        ]
    else:
        rows = [asdict(one) for one in found.ended]
    show_rows(rows, as_json=False, empty="Everything is at rest.")
    for error in found.errors:
        report(error, as_json=False)
    if found.errors:
        err.print("Not everything could be looked at; repeat the command.")
    elif found.problems():
        out.print("What has a problem stays as it is; repeat the command when its backend answers.")
