"""`bollard archive stats`: what each archived snapshot costs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.markup import escape

from ..core.archive import VolumeStats
from ..core.backends import LONGEST
from ..core.spi import Call
from .context import JsonFlag, StoreName
from .jobs import open_archive
from .output import err, out, print_json, show_rows, size_text

_SIZES = ("logical", "data", "own", "shared", "cost")
_KINDS = ("running", "unneeded", "unclear", "foreign")


def stats(
    ctx: typer.Context,
    volume: Annotated[str, typer.Argument(help="Only this volume.")] = "",
    store: StoreName = "",
    json: JsonFlag = False,
) -> None:
    """Show what each snapshot costs and what deleting it would free; exit code 8 if something is damaged."""
    with open_archive(ctx, store) as archive:
        call = Call.within(LONGEST)
        found = [archive.stats(call, volume=v) for v in ([volume] if volume else archive.volumes(call))]
    if json:
        print_json({"volumes": [asdict(one) for one in found], "total": _total(found)})
    else:
        _show(found)
    if any(one.missing or one.damaged for one in found):
        raise typer.Exit(8)


def _total(found: Iterable[VolumeStats]) -> dict[str, Any]:
    found = list(found)
    rows = [row for one in found for row in one.snapshots]
    kinds = {kind: sum(getattr(one, kind).size for one in found) for kind in _KINDS}
    return {
        "volumes": len(found),
        "snapshots": len(rows),
        "logical": sum(row.logical for row in rows),
        "stored": sum(one.stored for one in found),
        **kinds,
    }


def _show(found: list[VolumeStats]) -> None:
    rows = [{"volume": one.volume, **asdict(row)} for one in found for row in one.snapshots]
    texts = [{key: size_text(cell) if key in _SIZES else cell for key, cell in row.items()} for row in rows]
    show_rows(texts, as_json=False, empty="The archive is empty.")
    total = _total(found)
    out.print(f"{total['snapshots']} snapshots of {total['volumes']} volumes: {size_text(total['stored'])}")
    for kind, what in (
        ("running", "of backups that run, or ended less than half an hour ago"),
        ("unneeded", "that nobody needs: `bollard archive collect` frees it"),
        ("unclear", "that may belong to what is damaged"),
        ("foreign", "of files that are not Bollard's"),
    ):
        if total[kind]:
            out.print(f"of it {size_text(total[kind])} {what}", soft_wrap=True)
    for one in found:
        for problem in (*one.damaged, *(f"the part {key} is missing or cut off" for key in one.missing)):
            err.print(f"[red]damaged[/red]: {escape(problem)}", soft_wrap=True)
