"""`bollard archive fleet`: many volumes at once, on this machine or on a cluster."""

from __future__ import annotations

import json as codec
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from ..core.backends import LONGEST
from ..core.fleet import Fleet, Job, Limits, Row, Site, close_sites, jobs_in, jobs_of, open_engine, site_of
from ..core.spi import Call, InvalidArgument
from . import context
from .context import CompressionOption, JsonFlag, PoolName, StoreName
from .output import err, out, show_rows, size_text, transfer

# Some did not make it; which ones, and why, is in their rows. Repeat the command.
SOME_FAILED = 11

# Longer tables nobody reads: then only what failed is shown.
_ROWS = 100


def fleet(
    ctx: typer.Context,
    run: Annotated[str, typer.Option(help="Name of the run, e.g. a date. Repeat it to finish the run.")],
    file: Annotated[
        Path | None, typer.Option(help='Jobs: [{"volume", "pool", "tenant", "parent"}, …].', dir_okay=False)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All volumes of the pool.")] = False,
    pool: PoolName = "",
    store: StoreName = "",
    engine: Annotated[
        str, typer.Option(help="threads[:N], processes[:N], dask://HOST:PORT, dask+tls://HOST:PORT.")
    ] = "threads",
    volumes: Annotated[int, typer.Option(help="Volumes of one pool in progress at once.")] = 8,
    per_pool: Annotated[int, typer.Option(help="Tasks that read one pool at once; 0: no limit.")] = 0,
    per_store: Annotated[int, typer.Option(help="Tasks that write the store at once; 0: no limit.")] = 0,
    batch: Annotated[int, typer.Option(help="Windows per task.", min=1, max=1024)] = 4,
    compression: CompressionOption = "stored",
    json: JsonFlag = False,
) -> None:
    """Archive many volumes; one that fails stops no other. With --json a line for each as it ends.

    Exit code 0: all of them are in the archive; 11: some are not, repeat the command.
    """
    if every == (file is not None):
        raise InvalidArgument("say which volumes: --file FILE, or --all of a --pool")
    limits = Limits(volumes=volumes, per_pool=per_pool or None, per_store=per_store or None)
    config = context.config(ctx).path
    try:
        site = site_of(config)
        jobs = _jobs(site, file, pool)
        with open_engine(engine) as opened:
            # A worker of a cluster is another machine, with a configuration of its own.
            share = {"config": None if engine.startswith("dask") else config, "batch": batch}
            night = Fleet(
                site=site,
                engine=opened,
                run=run,
                store=store,
                limits=limits,
                share=share,
                compression=compression,
            )
            rows = _run(night, jobs, as_json=json, quiet=json or context.settings(ctx).quiet)
    finally:
        close_sites()
    _sum_up(rows, run, as_json=json)


def _jobs(site: Site, file: Path | None, pool: str) -> list[Job]:
    if file is None:
        return jobs_of(site.pool(pool))
    return jobs_in(file, pool or site.config.default_pool)


def _run(night: Fleet, jobs: list[Job], *, as_json: bool, quiet: bool) -> list[Row]:
    rows: list[Row] = []
    with (
        transfer(f"run {night.run}", quiet=quiet, steps=True) as progress,
        closing(night.rows(jobs, Call.within(LONGEST))) as ended,
    ):
        progress(0, len(jobs))
        for row in ended:
            rows.append(row)
            progress(len(rows), len(jobs))
            if as_json:
                _print_line(_described(row, exact=True) | {"error": row.error and row.error.to_json()})
            elif row.error is not None:
                err.print(f"[red]failed[/red] {row.job.volume}: {escape(row.error.message)}", soft_wrap=True)
    return rows


def _described(row: Row, *, exact: bool) -> dict[str, Any]:
    manifest = row.manifest
    layer = f"{row.snapshot}/"
    parts = manifest.parts() if manifest else ()
    stored = sum(part.size for _, part in parts if part.layer.startswith(layer))
    size = manifest.size if manifest else 0
    return {
        "volume": row.job.volume,
        "pool": row.job.pool,
        "snapshot": row.snapshot,
        "state": "failed" if row.error else "archived" if row.fresh else "there",
        "parent": manifest.parent if manifest else None,
        "size": size if exact else size_text(size),
        "stored": stored if exact else size_text(stored),
        "seconds": round(row.seconds, 3),
        "workers": dict(row.shares),
    }


def _sum_up(rows: list[Row], run: str, *, as_json: bool) -> None:
    failed = [row for row in rows if row.error]
    if as_json:
        _print_line({"run": run, "volumes": len(rows), "failed": len(failed)})
    else:
        shown = [_described(row, exact=False) for row in (rows if len(rows) <= _ROWS else failed)]
        show_rows(shown, as_json=False, empty="No volumes." if not rows else "All are in the archive.")
        out.print(f"{len(rows) - len(failed)} of {len(rows)} volumes are in the archive.")
    if failed:
        raise typer.Exit(SOME_FAILED)


def _print_line(value: dict[str, Any]) -> None:
    sys.stdout.write(codec.dumps(value) + "\n")
    sys.stdout.flush()
