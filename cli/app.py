"""The command line: `bollard …`. Each command group is a module of its own, see `lazy`."""

from __future__ import annotations

import os
import signal
import sys
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.plugins import PluginError
from ..core.spi import StorageError
from .lazy import lazy_group
from .output import report
from .settings import Settings

if TYPE_CHECKING:
    from ..core.metrics import PrometheusMetrics


COMMANDS = {
    "archive": "archive",
    "pool": "pools",
    "snapshot": "snapshots",
    "store": "stores",
    "fence": "fences",
    "catalog": "catalog",
    "sync": "sync",
    "sweep": "sweep",
    "events": "events",
    "agent": "agent",
    "api": "api",
    "wire": "wire",
    "conformance": "conformance",
    "new-driver": "new_driver",
    "drivers": "drivers",
    "simulate": "simulate",
    "demo": "demo",
    "doctor": "doctor",
}


class Progress(StrEnum):
    """How progress is shown."""

    BAR = "bar"
    JSON = "json"
    NONE = "none"


app = typer.Typer(
    name="bollard",
    cls=lazy_group(COMMANDS),
    help="The storage data plane of VM clouds: drivers, snapshots, archive, simulators, conformance.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bollard {metadata.version('bollard')}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    config: Annotated[
        Path | None, typer.Option(help="Configuration file (default: $BOLLARD_CONFIG or the user's own).")
    ] = None,
    version: Annotated[  # noqa: ARG001 - its callback has ended the program
        bool, typer.Option("--version", help="Print the version, and end.", callback=_version, is_eager=True)
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")] = False,
    progress: Annotated[
        Progress, typer.Option(help="How progress is shown; json: one object per line on standard error.")
    ] = Progress.BAR,
    progress_fd: Annotated[
        int, typer.Option(min=2, help="Write the JSON lines to this file descriptor instead.")
    ] = 2,
    metrics_file: Annotated[
        Path | None,
        typer.Option(help="Write metrics here at the end, for the node exporter's textfile collector."),
    ] = None,
    metrics_port: Annotated[
        int, typer.Option(help="Serve metrics to Prometheus on this port of 127.0.0.1 while it runs.")
    ] = 0,
) -> None:
    """The storage data plane of VM clouds."""
    machine = progress is Progress.JSON
    stream = (sys.stderr if progress_fd == 2 else os.fdopen(progress_fd, "w")) if machine else None
    ctx.obj = Settings(
        config=config,
        quiet=quiet or progress is Progress.NONE,
        progress=stream,
        metrics=_measured(ctx, metrics_file, metrics_port),
    )


def _measured(ctx: typer.Context, path: Path | None, port: int) -> PrometheusMetrics | None:
    if path is None and not port:
        return None
    from .measuring import measured  # Prometheus' library: for those who want it

    return measured(ctx, path, port)


def main() -> None:
    """Run the command line; the process edge where errors become messages and exit codes.

    Typer prints its own errors (usage, exit code 2) and handles Ctrl-C (130). SIGTERM ends a command in
    the same way: what it made for the time being is undone, not left to the next sweep.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app()
    except (StorageError, PluginError, OSError) as error:
        sys.exit(report(error, as_json="--json" in sys.argv))
