"""`bollard events …`: what happened, as CloudEvents."""

from __future__ import annotations

import json as json_module
import sys
import threading
from contextlib import closing, suppress
from typing import Annotated, Any

import typer

from ..core.event_stream import EventStream, cloud_event
from ..core.service.fleet import open_catalog
from . import context
from .context import JsonFlag
from .output import show_rows

app = typer.Typer(help="What happened to each object, in order.", no_args_is_help=True)

Types = Annotated[
    list[str] | None, typer.Option("--type", help="Beginning of a type, e.g. bollard.job.; repeatable.")
]


@app.command("list")
def list_events(
    ctx: typer.Context,
    after: Annotated[int, typer.Option(min=0, help="Position after which to begin.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Events at most.")] = 100,
    kinds: Types = None,
    json: JsonFlag = False,
) -> None:
    """List events, oldest first."""
    with closing(open_catalog(context.config(ctx))) as catalog:
        events = EventStream(catalog).read(after, limit=limit, types=kinds or ())
    found = [cloud_event(event) for event in events]
    rows = found if json else [_row(event) for event in found]
    show_rows(rows, as_json=json, empty="Nothing has happened.")


@app.command()
def tail(
    ctx: typer.Context,
    after: Annotated[
        int | None, typer.Option(min=0, help="Position after which to begin; without it: from now on.")
    ] = None,
    kinds: Types = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document per line.")] = False,
) -> None:
    """Print events as they happen, until Ctrl-C."""
    with closing(open_catalog(context.config(ctx))) as catalog, suppress(KeyboardInterrupt):
        stream = EventStream(catalog)
        begin = stream.last() if after is None else after
        for event in stream.follow(begin, threading.Event(), types=kinds or ()):
            told = cloud_event(event)
            sys.stdout.write((json_module.dumps(told) if json else "  ".join(_row(told).values())) + "\n")
            sys.stdout.flush()


def _row(event: dict[str, Any]) -> dict[str, str]:
    return {
        "position": event["sequence"].lstrip("0"),
        "time": event["time"],
        "type": event["type"],
        "subject": event["subject"],
        "reason": str(event["data"].get("reason", "")),
    }
