"""`bollard fence …`: hosts are switched off and on through their management controllers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Annotated

import typer

from ..core.fence import Fence
from ..core.spi import Call, PowerState
from . import context
from .context import JsonFlag
from .output import out, show, show_rows

app = typer.Typer(help="Hosts, switched off and on through their BMCs.", no_args_is_help=True)

HostArg = Annotated[str, typer.Argument(help="A host, as the configuration names its fence.")]
Seconds = Annotated[float, typer.Option(min=1.0, help="Seconds to make sure.")]


@app.command("list")
def list_fences(ctx: typer.Context, json: JsonFlag = False) -> None:
    """List the fences of the configuration."""
    rows = [{"host": b.name, "driver": b.driver} for b in context.config(ctx).fences.values()]
    show_rows(rows, as_json=json, empty="The configuration has no fence.")


@app.command()
def status(ctx: typer.Context, host: HostArg, timeout: Seconds = 60.0, json: JsonFlag = False) -> None:
    """Read a host's power, once."""
    with closing(context.fence(ctx, host)) as fence:
        _tell(host, fence.power_state(Call.within(timeout)), json)


@app.command()
def off(ctx: typer.Context, host: HostArg, timeout: Seconds = 120.0, json: JsonFlag = False) -> None:
    """Switch a host off, and end with 0 only if two readings say so."""
    _switch(ctx, host, lambda fence: fence.power_off(Call.within(timeout)), PowerState.OFF, json)


@app.command()
def on(ctx: typer.Context, host: HostArg, timeout: Seconds = 120.0, json: JsonFlag = False) -> None:
    """Switch a host on, and end with 0 only if two readings say so."""
    _switch(ctx, host, lambda fence: fence.power_on(Call.within(timeout)), PowerState.ON, json)


def _switch(
    ctx: typer.Context, host: str, act: Callable[[Fence], None], state: PowerState, json: bool
) -> None:
    with closing(context.fence(ctx, host)) as fence:
        act(fence)
    _tell(host, state, json)


def _tell(host: str, state: PowerState, json: bool) -> None:
    if json:
        show({"host": host, "power": state.value}, as_json=True)
    else:
        out.print(f"{host} is {state.value}")
