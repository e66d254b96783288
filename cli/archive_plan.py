"""`bollard archive plan`: how long a night would take, and what limits it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from ..core.fleet.calibrate import calibrate
from ..core.fleet.forecast import Forecast, forecast
from ..core.fleet.scenario import read_scenario
from ..core.spi import Call, InvalidArgument
from . import context
from .context import JsonFlag
from .output import out, print_json, show, show_rows, size_text, transfer


def plan(
    ctx: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(help="The fleet on paper, JSON; docs/fleet.md.", dir_okay=False)
    ] = None,
    measure: Annotated[
        str, typer.Option("--calibrate", metavar="STORE", help="Measure this machine and a store instead.")
    ] = "",
    json: JsonFlag = False,
) -> None:
    """Simulate a night of a fleet: how long, how busy, what limits it, what more of it would gain."""
    if (file is None) == (not measure):
        raise InvalidArgument("give a FILE to simulate, or --calibrate STORE to measure")
    if file is None:
        _calibrate(ctx, measure, json)
        return
    scenario = read_scenario(file)
    with transfer("simulating", quiet=json or context.settings(ctx).quiet, steps=True) as progress:
        found = forecast(scenario, progress)
    if json:
        print_json(asdict(found))
    else:
        _show(found)


def _calibrate(ctx: typer.Context, store: str, json: bool) -> None:
    with closing(context.store(ctx, store)) as opened:
        measured = calibrate(opened, Call.within())
    if json:
        print_json(measured)
        return
    show(measured["store"], as_json=False, title="store (bytes per second, seconds)")
    show(measured["worker"], as_json=False, title="worker (bytes per second and core)")


def _show(found: Forecast) -> None:
    whole = {
        "takes": str(timedelta(seconds=round(found.seconds))),
        "volumes": found.volumes,
        "tasks": found.tasks,
        "read": size_text(round(found.read)),
        "stored": size_text(round(found.stored)),
        "limited by": found.limit or "nothing alone",
    }
    show(whole, as_json=False, title="the night")
    busy = sorted(found.utilisation.items(), key=lambda item: -item[1])
    show_rows([{"resource": n, "busy": f"{share:.0%}"} for n, share in busy], as_json=False, empty="Nothing.")
    gains = sorted(found.gains.items(), key=lambda item: -item[1])
    rows = [{"twice the": name, "the night is faster by": f"{gain:.2f} x"} for name, gain in gains]
    show_rows(rows, as_json=False, empty="Nothing limits it.")
    out.print("Figures as in the file; measure them with `bollard archive plan --calibrate STORE`.")
