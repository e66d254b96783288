"""`bollard new-driver NAME`: a vendor's package that passes the static tier at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..conformance.scaffold.write import Kind, write_package
from .context import JsonFlag
from .output import out, print_json


def new_driver(
    name: Annotated[str, typer.Argument(help="What operators will write: lower case, e.g. acme.")],
    kind: Annotated[
        Kind,
        typer.Option(
            help="managed: an array; array: the same, but whole: Bollard's own, to become yours;"
            " host: a pool that hosts mount; image-store: objects."
        ),
    ] = Kind.MANAGED,
    directory: Annotated[
        Path | None, typer.Option(help="Where the package goes (default: ./NAME-bollard).", file_okay=False)
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Write the package of a new driver; its README tells what to do next."""
    home = directory or Path(f"{name}-bollard")
    files = write_package(name, kind, home)
    if json:
        print_json({"directory": str(home), "files": [str(path) for path in files]})
        return
    for path in files:
        out.print(str(home / path), markup=False, soft_wrap=True)
    out.print("\nNext:", style="bold")
    out.print(f"  pip install --editable '{home}[dev]'", markup=False, soft_wrap=True)
    out.print(f"  bollard conformance run --driver {name} --tier static", markup=False, soft_wrap=True)
    out.print(f"  and what {home / 'README.md'} says", markup=False, soft_wrap=True)
