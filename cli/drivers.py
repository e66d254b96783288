"""`bollard drivers`: what is installed, what it can do, which options it takes."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from ..core.plugins import describe_drivers, load_driver
from ..core.spi import options_schema, options_toml
from .context import JsonFlag
from .output import out, print_json, show_rows


def drivers(
    options: Annotated[str, typer.Option(help="Show the options of this driver as TOML.")] = "",
    json: JsonFlag = False,
) -> None:
    """List every driver, with version and capabilities, or why it cannot be loaded."""
    if options:
        _show_options(options, json)
        return
    rows = [dataclasses.asdict(info) for info in describe_drivers()]
    show_rows(rows, as_json=json, empty="No driver is installed.")


def _show_options(name: str, json: bool) -> None:
    cls = load_driver(name)
    if json:
        print_json(options_schema(cls.Options))
    else:
        out.print(options_toml(cls.Options), end="", markup=False, soft_wrap=True)
