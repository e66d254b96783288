"""`bollard store …`: what secondary storage is, and how that is known."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from typing import Annotated, Any

import typer

from ..core.spi import Call, FoundTrait
from . import context
from .context import JsonFlag
from .output import show_rows, size_text

app = typer.Typer(help="Secondary storage: where archives are kept.", no_args_is_help=True)


@app.command("list")
def list_stores(ctx: typer.Context, json: JsonFlag = False) -> None:
    """List the stores of the configuration."""
    rows = [{"store": b.name, "driver": b.driver} for b in context.config(ctx).stores.values()]
    show_rows(rows, as_json=json, empty="The configuration has no store.")


@app.command()
def probe(
    ctx: typer.Context,
    store: Annotated[str, typer.Argument(help="A store of the configuration; else the default.")] = "",
    timeout: Annotated[float, typer.Option(min=1.0, help="Seconds for all of it.")] = 60.0,
    json: JsonFlag = False,
) -> None:
    """Show each trait of a store, and how it is known: probed, configured or documented.

    Writes a few hidden objects of some bytes, and deletes them.
    """
    with closing(context.store(ctx, store)) as opened:
        found = opened.probe(Call.within(timeout))
    show_rows([_row(trait, exact=json) for trait in found], as_json=json, empty="The driver tells nothing.")


def _row(trait: FoundTrait, *, exact: bool) -> dict[str, Any]:
    row = dataclasses.asdict(trait)
    if exact:
        return row
    value = trait.value
    if isinstance(value, bool):
        row["value"] = "yes" if value else "no"
    elif isinstance(value, int) and trait.name.endswith("_size"):
        row["value"] = size_text(value)
    elif value is None:
        row["value"] = "-"
    return row
