"""The command line: `bollard …`. Each command group is a module of its own."""

from __future__ import annotations

import os
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..core.plugins import PluginError
from ..core.spi import StorageError
from . import (
    agent,
    api,
    archive,
    archive_check,
    archive_copy,
    archive_fleet,
    archive_keep,
    archive_plan,
    archive_serve,
    archive_stats,
    catalog,
    conformance,
    demo,
    doctor,
    drivers,
    events,
    fences,
    new_driver,
    pools,
    simulate,
    stores,
    sweep,
    sync,
    wire,
)
from .context import Settings
from .measuring import measured
from .output import report


class Progress(StrEnum):
    """How progress is shown."""

    BAR = "bar"
    JSON = "json"
    NONE = "none"


app = typer.Typer(
    name="bollard",
    help="The storage data plane of VM clouds: drivers, snapshots, archive, simulators, conformance.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def root(
    ctx: typer.Context,
    config: Annotated[
        Path | None, typer.Option(help="Configuration file (default: $BOLLARD_CONFIG or the user's own).")
    ] = None,
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
        metrics=measured(ctx, metrics_file, metrics_port),
    )


archive.app.command()(archive_serve.serve)
archive.app.command()(archive_fleet.fleet)
archive.app.command()(archive_copy.copy)
archive.app.command()(archive_plan.plan)
app.add_typer(archive.app, name="archive")
archive.app.command()(archive_stats.stats)
archive.app.command()(archive_keep.retain)
archive.app.command()(archive_check.check_up)
app.add_typer(pools.app, name="pool")
app.add_typer(stores.app, name="store")
app.add_typer(fences.app, name="fence")
app.add_typer(simulate.app, name="simulate")
app.add_typer(catalog.app, name="catalog")
app.add_typer(conformance.app, name="conformance")
app.add_typer(wire.app, name="wire")
app.add_typer(api.app, name="api")
app.command()(agent.agent)
app.add_typer(events.app, name="events")
app.command()(demo.demo)
app.command()(doctor.doctor)
app.command()(drivers.drivers)
app.command()(sweep.sweep)
app.command()(sync.sync)
app.command()(new_driver.new_driver)


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
