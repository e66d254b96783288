"""How commands speak: Rich for people, one JSON document for programs, errors that say what to do.

Exit codes (documented in docs/cli.md):

    0  done                        5  already there, or in use        8  the data is damaged
    1  something failed inside     6  the backend cannot be reached   9  not possible here
    2  bad usage or input          7  no access                       130  interrupted
    4  not found                  10  conformance: no              11  fleet: some volumes failed
                                  12  sweep: something was found
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from ..core.dataplane.os_errors import error_of
from ..core.plugins import PluginError
from ..core.spi import Outcome, StorageError
from ..core.spi import Progress as ProgressSink
from .progress import lines

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

EXIT_CODES: Mapping[str, int] = {
    "internal": 1,
    "invalid_argument": 2,
    "not_found": 4,
    "conflict": 5,
    "in_use": 5,
    "has_dependents": 5,
    "unavailable": 6,
    "busy": 6,
    "deadline_exceeded": 6,
    "unauthenticated": 7,
    "permission_denied": 7,
    "data_loss": 8,
    "unsupported": 9,
    "out_of_capacity": 9,
    "limit_exceeded": 9,
}

# What a person does next; only where the class alone tells it.
_HINTS: Mapping[str, str] = {
    "unavailable": "Is the backend up and the address right? `bollard doctor` checks this machine.",
    "unauthenticated": "Check user and password (or the environment variable or file they come from).",
    "data_loss": "Do not delete anything; run `bollard archive verify --level 4` and keep the output.",
    "deadline_exceeded": "Repeat the command: every operation can be repeated.",
    "busy": "Repeat the command in a moment.",
}


def print_json(value: object) -> None:
    """Print one JSON document on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def show(value: Mapping[str, Any], *, as_json: bool, title: str = "") -> None:
    """Show one object as JSON or as a two-column table."""
    if as_json:
        print_json(value)
        return
    table = Table(title=Text(title) if title else None, show_header=False, title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for key, cell in value.items():
        table.add_row(Text(key, style="bold"), _cell(cell))
    out.print(table)


def show_rows(rows: Sequence[Mapping[str, Any]], *, as_json: bool, empty: str) -> None:
    """Show a list as JSON or as a table whose columns are the keys of the first row."""
    if as_json:
        print_json(list(rows))
        return
    if not rows:
        out.print(empty)
        return
    table = Table()
    for key in rows[0]:
        table.add_column(key, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(cell) for cell in row.values()))
    out.print(table)


def _cell(value: object) -> Text:
    """Return a value as plain text: what people call a volume is no markup, even if it is "[bold]"."""
    if isinstance(value, Mapping):
        return Text("\n".join(f"{key}: {item}" for key, item in value.items()))
    if isinstance(value, list | tuple | set | frozenset):
        return Text(", ".join(str(item) for item in value))
    return Text("" if value is None else str(value))


def size_text(size: int) -> str:
    """Return bytes as a person reads them, exact when they are round: 8 GiB, 1.5 GiB, 512 B."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            return f"{value:.0f} {unit}" if value == int(value) else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError


@contextmanager
def transfer(
    title: str, *, quiet: bool, steps: bool = False, stream: TextIO | None = None
) -> Iterator[ProgressSink]:
    """Show a progress bar on standard error while bytes move; yields what a Call wants.

    The bar appears with the first report and goes when the work is done: what is quick, or does not
    report, shows nothing.

    Args:
        steps: steps are counted, not bytes.
        stream: instead of the bar, JSON lines are written here (see progress.py).
    """
    if stream is not None:
        with lines(stream, title, "steps" if steps else "bytes") as writer:
            yield writer
        return
    figures = (MofNCompleteColumn(),) if steps else (DownloadColumn(binary_units=True), TransferSpeedColumn())
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        *figures,
        TimeRemainingColumn(compact=True),
        console=err,
        transient=True,
        disable=quiet,
        expand=True,
    )
    task = bar.add_task(title[:40], total=None, visible=False)
    with bar:
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)


def report(error: Exception, *, as_json: bool) -> int:
    """Print an error and return the exit code that goes with it."""
    if isinstance(error, OSError):
        said = f"{error.strerror or error}{f' ({error.filename})' if error.filename else ''}"
        error = error_of(error.errno or 0, said, outcome=Outcome.UNKNOWN)
    if isinstance(error, StorageError):
        body, code = error.to_json(), EXIT_CODES.get(error.code, 1)
    elif isinstance(error, PluginError):
        body, code = {"code": "plugin", "message": str(error)}, 2
    else:
        raise error
    if as_json:
        print_json({"error": body})
        return code
    # Not wrapped: a path that breaks in the middle cannot be copied.
    err.print(f"[red]error[/red] ({body['code']}): {escape(str(body['message']))}", soft_wrap=True)
    if hint := _HINTS.get(str(body["code"])):
        err.print(f"[dim]{escape(hint)}[/dim]", soft_wrap=True)
    return code
