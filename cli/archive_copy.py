"""`bollard archive copy`: snapshots from one store to another."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from ..core.spi import InvalidArgument
from .archive import VolumeArg
from .context import JsonFlag
from .jobs import job, open_archive
from .output import show_rows, size_text


def copy(
    ctx: typer.Context,
    volume: VolumeArg,
    source: Annotated[str, typer.Option("--from", help="The store that has them.")],
    target: Annotated[str, typer.Option("--to", help="The store that gets them.")],
    snapshots: Annotated[list[str] | None, typer.Argument(help="Their ids; none: all.")] = None,
    json: JsonFlag = False,
) -> None:
    """Copy archived snapshots to another store, parents first. Repeat the command after any failure."""
    if source == target:
        raise InvalidArgument("--from and --to name the same store")
    with (
        open_archive(ctx, source) as here,
        open_archive(ctx, target) as there,
        job(ctx, f"copying {volume} to {target}", json) as call,
    ):
        done = there.copy_from(here, call, volume=volume, snapshots=snapshots or ())
    rows = [asdict(one) for one in done]
    if not json:
        rows = [row | {key: size_text(row[key]) for key in ("size", "shared")} for row in rows]
    show_rows(rows, as_json=json, empty=f"{source} has no snapshot of {volume}.")
