"""`bollard archive check-up`: all of a store little by little, from cron or a systemd timer."""

from __future__ import annotations

import json as jsonlib
import os
from dataclasses import asdict
from math import ceil
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from ..core.archive import CheckUp, Cursor, Level
from ..core.dataplane.durable import sync
from ..core.mover import state_directory
from ..core.spi import InvalidArgument
from . import context
from .context import JsonFlag, StoreName
from .jobs import job, open_archive
from .output import err, out, print_json, size_text
from .sizes import Size


def check_up(
    ctx: typer.Context,
    store: StoreName = "",
    every: Annotated[int, typer.Option("--every", min=1, help="Read each part once in so many runs.")] = 30,
    percent: Annotated[float, typer.Option(help="Instead: read so many percent of the parts.")] = 0.0,
    budget: Annotated[
        int, typer.Option("--budget", parser=Size, help="Read so many bytes at most: 50GiB.")
    ] = 0,
    level: Annotated[int, typer.Option(min=1, max=4, help="As for `verify`.")] = 4,
    state: Annotated[
        Path | None, typer.Option(help="Where the place to go on from is kept.", dir_okay=False)
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Check all manifests and names, and the bytes of some parts, others each time; exit code 8 on damage."""
    name = context.config(ctx).store(store).name
    path = state or state_directory() / "check-up" / f"{name}.json"
    cursor = _load(path)
    with open_archive(ctx, store) as archive, job(ctx, f"checking {name}", json, steps=True) as call:
        found = archive.check_up(
            call, cursor, percent=percent or 100 / every, budget=budget or None, level=Level(level)
        )
    _save(path, found.cursor)
    _tell(found, json)
    if not found.ok:
        raise typer.Exit(8)


def _load(path: Path) -> Cursor:
    """Return where the run before ended; the start if there was none."""
    try:
        value: Any = jsonlib.loads(path.read_bytes())
        return Cursor(position=int(value["position"], 16), turn=value["turn"], run=value["run"])
    except FileNotFoundError:
        return Cursor()
    except (ValueError, KeyError, TypeError, InvalidArgument) as error:
        raise InvalidArgument(f"{path} is damaged: delete it, then the check-ups begin anew") from error


def _save(path: Path, cursor: Cursor) -> None:
    """Replace the file at once: a run that is killed before this is repeated."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(jsonlib.dumps(asdict(cursor) | {"position": f"{cursor.position:016x}"}) + "\n")
    sync(fresh)
    fresh.replace(path)
    sync(path.parent)


def _tell(found: CheckUp, json: bool) -> None:
    if json:
        body = asdict(found) | {"cursor": asdict(found.cursor), "ok": found.ok}
        print_json(body)
        return
    for problem in found.problems:
        err.print(f"[red]damaged[/red]: {escape(problem)}", soft_wrap=True)
    verdict = "[green]whole[/green]" if found.ok else f"[red]{len(found.problems)} problems[/red]"
    out.print(
        f"{found.snapshots} snapshots, {found.parts} parts ({size_text(found.size)}) are there;"
        f" read {found.read} ({size_text(found.read_size)}): {verdict}",
        soft_wrap=True,
    )
    runs = ceil(1 / found.share - 1e-6)  # the share was rounded up
    where = f"{100 * found.cursor.position / 2**64:.0f} % of turn {found.cursor.turn + 1} are done"
    out.print(f"{where}; at this pace a turn takes {runs} runs", soft_wrap=True)
