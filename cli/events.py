"""`bollard events …`: what happened, as CloudEvents."""

from __future__ import annotations

import json as json_module
import sys
import threading
from contextlib import closing, suppress
from typing import Annotated, Any

import typer

from ..core.event_stream import DeadLetter, DeadLetters, EventStream, cloud_event
from ..core.service.catalog_place import open_catalog
from . import context
from .context import JsonFlag
from .output import show, show_rows

app = typer.Typer(help="What happened to each object, in order.", no_args_is_help=True)
dead_app = typer.Typer(help="Events that a webhook's receiver refused too often.", no_args_is_help=True)
app.add_typer(dead_app, name="dead")

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


@dead_app.command("list")
def list_dead(
    ctx: typer.Context,
    webhook: Annotated[str, typer.Option(help="Only those of this webhook.")] = "",
    after: Annotated[int, typer.Option(min=0, help="Position after which to begin.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Events at most.")] = 100,
    json: JsonFlag = False,
) -> None:
    """List events that were given up, oldest first, with the last refusal."""
    with closing(open_catalog(context.config(ctx))) as catalog:
        letters = DeadLetters(catalog).read(webhook=webhook, after=after, limit=limit)
    show_rows([_letter(one) for one in letters], as_json=json, empty="No event was given up.")


@dead_app.command("retry")
def retry_dead(
    ctx: typer.Context,
    webhook: Annotated[str, typer.Argument(help="Name of the webhook.")],
    position: Annotated[
        list[int] | None, typer.Option(help="Of an event; repeatable. Without it: all of the webhook's.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Have them delivered again, by whatever API server runs."""
    with closing(open_catalog(context.config(ctx))) as catalog:
        found = DeadLetters(catalog).retry(webhook, position or ())
    show({"retried": found}, as_json=json)


def _letter(one: DeadLetter) -> dict[str, Any]:
    row = _row(cloud_event(one.event))
    del row["reason"]
    return row | {"webhook": one.webhook, "attempts": one.attempts, "error": one.error}


def _row(event: dict[str, Any]) -> dict[str, str]:
    return {
        "position": event["sequence"].lstrip("0"),
        "time": event["time"],
        "type": event["type"],
        "subject": event["subject"],
        "reason": str(event["data"].get("reason", "")),
    }
