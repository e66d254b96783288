"""`bollard wire …`: CloudStack's JSON and frames to Bollard's JSON and back, and explained."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ..core.spi import InvalidArgument
from ..transfer_objects import DecodeError
from ..transfer_objects.cloudstack import HEADER_BYTES, MAX_BYTES, Message, Row
from .context import JsonFlag
from .output import show_rows

app = typer.Typer(
    help="CloudStack's JSON and agent frames: to Bollard's JSON and back, and explained.",
    no_args_is_help=True,
)

File = Annotated[Path, typer.Argument(help="The file, or - for standard input.", show_default=False)]
AsClass = Annotated[
    str | None,
    typer.Option("--as", help="Class of a bare body, e.g. VolumeObjectTO; without it, its keys tell."),
]


@app.command()
def decode(
    file: File = Path("-"),
    as_class: AsClass = None,
    roundtrip: Annotated[
        bool, typer.Option("--roundtrip", help="Print CloudStack's form again, secrets included.")
    ] = False,
    reveal_secrets: Annotated[
        bool, typer.Option("--reveal-secrets", help="Print passwords and keys in clear; else they are lost.")
    ] = False,
) -> None:
    """Print Bollard's JSON of a payload, a class-keyed object, a bare body or a frame."""
    with _refusals():
        message = Message.from_wire(_read(file), as_class)
        _print(message.wire() if roundtrip else message.native(reveal_secrets=reveal_secrets).encode())


@app.command()
def encode(
    file: File = Path("-"),
    bare: Annotated[bool, typer.Option("--bare", help="Print the body without its class's name.")] = False,
) -> None:
    """Print CloudStack's JSON (or frame) of what `decode` printed, or of any transfer object's JSON."""
    with _refusals():
        _print(Message.from_native(_read(file), bare=bare).wire())


@app.command()
def explain(file: File = Path("-"), as_class: AsClass = None, json: JsonFlag = False) -> None:
    """Show each field: CloudStack's name, ours, type, meaning and value. Secrets are not shown."""
    with _refusals():
        rows = list(Message.from_wire(_read(file), as_class).rows())
    shown = [dataclasses.asdict(row) if json else _columns(row) for row in rows]
    show_rows(shown, as_json=json, empty="The payload is empty.")


def _columns(row: Row) -> dict[str, str]:
    """Return a row as people read it: whole paths would leave no room for the rest."""
    wire, native = (re.split(r"\.(?=[^.]+$)", path)[-1] for path in (row.wire, row.native))
    return {
        "wire name": f"{'  ' * row.depth}{wire}",
        "our name": native,
        "type": row.type,
        "meaning": row.meaning,
        "value": row.value,
    }


def _read(file: Path) -> bytes:
    """Read no more than it takes to see that it is too much."""
    limit = MAX_BYTES + HEADER_BYTES + 1
    if str(file) == "-":
        return sys.stdin.buffer.read(limit)
    with file.open("rb") as stream:
        return stream.read(limit)


def _print(data: bytes) -> None:
    # A frame is bytes, and must not be followed by any; a text ends with a newline.
    sys.stdout.buffer.write(data if data[:1] < b" " else data + b"\n")
    sys.stdout.buffer.flush()


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except DecodeError as error:
        raise InvalidArgument(str(error)) from error
