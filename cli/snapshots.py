"""`bollard snapshot …`: incremental snapshots of qcow2 volumes, running, stopped or of no VM."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.service.increments import IncrementSite, increments_of, store_called
from ..core.service.increments_acts import restore_volume, revert_volume
from ..core.service.increments_list import Increment, chain_of, listed
from ..core.site import Site
from ..core.snapshots import kvm
from ..transfer_objects.ids import SnapshotId, VolumeId, new_id
from . import context
from .context import JsonFlag, PoolName
from .jobs import job
from .output import err, out, show, show_rows, size_text

app = typer.Typer(
    help="Incremental snapshots of volumes that are qcow2 files, as [increments] has it.",
    no_args_is_help=True,
)

VolumeArg = Annotated[str, typer.Argument(help="The volume's id.")]
SnapshotArg = Annotated[str, typer.Argument(help="The snapshot's id.")]
StoreOption = Annotated[
    str,
    typer.Option("--store", help="Only on this one of [directories] or [stores]; there may be copies."),
]


@contextmanager
def _opened(ctx: typer.Context, pool: str) -> Iterator[tuple[Site, IncrementSite]]:
    with context.site(ctx) as site:
        yield site, increments_of(site, pool)


@app.command()
def take(
    ctx: typer.Context,
    volume: VolumeArg,
    snapshot: Annotated[str, typer.Argument(help="Its id; without one a fresh id is made.")] = "",
    pool: PoolName = "",
    quiesce: Annotated[bool, typer.Option("--quiesce", help="Freeze a running guest for the cut.")] = False,
    json: JsonFlag = False,
) -> None:
    """Take a snapshot: a delta where that is possible. Repeat it with the same id after a failure."""
    name = SnapshotId(snapshot or new_id("snap"))
    if not snapshot:
        err.print(f"The snapshot's id is {name}.")  # who repeats the command needs it
    with _opened(ctx, pool) as (site, increments):
        place = increments.place(VolumeId(volume))
        with job(ctx, f"taking {volume}/{name}", json) as call:
            kvm.take(increments.engine, place, name, call, quiesce=quiesce)
        [row, *_] = listed(site.catalog(), snapshot=name)
    show(_described(row, json), as_json=json, title="taken")


@app.command("list")
def list_snapshots(
    ctx: typer.Context,
    volume: Annotated[str, typer.Option(help="Only this volume's.")] = "",
    json: JsonFlag = False,
) -> None:
    """List snapshots, oldest first; one that was copied has a row for each store."""
    with context.site(ctx) as site:
        rows = [_described(row, json) for row in listed(site.catalog(), volume=volume)]
    for row in rows if not json else ():
        for column in ("bytes", "end of chain", "frozen_seconds"):
            del row[column]
    show_rows(rows, as_json=json, empty="No snapshots.")


@app.command()
def chain(ctx: typer.Context, volume: VolumeArg, json: JsonFlag = False) -> None:
    """Show what a volume's snapshots are based on; those that are deleted, and needed by others, as well."""
    with context.site(ctx) as site:
        found = chain_of(site.catalog(), volume)
    # A deleted one that others need shows as Hidden on its store; what its user sees, is that it is gone.
    rows = [_described(row, json) | ({} if json else {"state": row.ref_state}) for row in found]
    for row in rows if not json else ():
        for column in ("volume", "error", "frozen_seconds", "size"):
            del row[column]
    show_rows(rows, as_json=json, empty="No snapshots.")


@app.command()
def restore(
    ctx: typer.Context,
    snapshot: SnapshotArg,
    target: Annotated[str, typer.Argument(help="Id of the new volume.")],
    pool: PoolName = "",
    to: Annotated[str, typer.Option(help="The pool that gets it; else the snapshot's own.")] = "",
    store: StoreOption = "",
    json: JsonFlag = False,
) -> None:
    """Make a new volume of a snapshot, on any pool."""
    with _opened(ctx, pool) as (site, increments):
        goal, only = site.pool(to or increments.name), _store(site, store)
        with job(ctx, f"restoring to {target}", json) as call:
            made = restore_volume(
                increments, SnapshotId(snapshot), VolumeId(target), goal, site.mover(), call, store=only
            )
    show({"volume": made.id, "size": made.size, "identity": made.identity}, as_json=json, title="restored")


@app.command()
def export(
    ctx: typer.Context,
    snapshot: SnapshotArg,
    path: Annotated[Path, typer.Argument(help="The new file.", dir_okay=False)],
    pool: PoolName = "",
    store: StoreOption = "",
    json: JsonFlag = False,
) -> None:
    """Write a snapshot to a new qcow2 file that needs no other."""
    with _opened(ctx, pool) as (site, increments), job(ctx, f"exporting to {path.name}", json) as call:
        engine, only = increments.engine, _store(site, store)
        kvm.template(engine, SnapshotId(snapshot), path.absolute(), call, store=only)
        size = kvm.size_of(engine, SnapshotId(snapshot), store=only)
    show({"file": str(path), "size": size}, as_json=json, title="exported")


@app.command()
def revert(
    ctx: typer.Context, volume: VolumeArg, snapshot: SnapshotArg, pool: PoolName = "", json: JsonFlag = False
) -> None:
    """Put a volume back to one of its snapshots; its VM must be off, and the next snapshot is a full."""
    with _opened(ctx, pool) as (_, increments), job(ctx, f"reverting {volume}", json) as call:
        revert_volume(increments, VolumeId(volume), SnapshotId(snapshot), call)
    show({"volume": volume, "snapshot": snapshot}, as_json=json, title="reverted")


@app.command()
def copy(
    ctx: typer.Context,
    snapshot: SnapshotArg,
    to: Annotated[str, typer.Option(help="Another of [directories] or [stores].")],
    pool: PoolName = "",
    json: JsonFlag = False,
) -> None:
    """Copy a snapshot to another secondary storage, as a full."""
    with _opened(ctx, pool) as (site, increments):
        store = store_called(site.config, to)
        increments.check_stores(SnapshotId(snapshot))
        with job(ctx, f"copying {snapshot}", json) as call:
            kvm.copy(increments.engine, SnapshotId(snapshot), store, call)
    show({"snapshot": snapshot, "store": store}, as_json=json, title="copied")


@app.command()
def delete(
    ctx: typer.Context,
    snapshot: SnapshotArg,
    pool: PoolName = "",
    store: StoreOption = "",
    json: JsonFlag = False,
) -> None:
    """Delete a snapshot; what others are based on stays as long as they do. One that is gone is fine."""
    with _opened(ctx, pool) as (site, increments):
        only = _store(site, store)
        increments.check_stores(SnapshotId(snapshot))
        with job(ctx, f"deleting {snapshot}", json) as call:
            kvm.delete(increments.engine, SnapshotId(snapshot), call, store=only)
    if json:
        show({"deleted": snapshot}, as_json=True)
    else:
        out.print(f"deleted {snapshot}")


@app.command()
def free(ctx: typer.Context, volume: VolumeArg, pool: PoolName = "", json: JsonFlag = False) -> None:
    """Free the space of what was deleted, on stores whose listing lags (Swift); once a day is enough."""
    with _opened(ctx, pool) as (_, increments), job(ctx, f"freeing {volume}", json) as call:
        kvm.free(increments.engine, VolumeId(volume), call)
    show({"volume": volume}, as_json=json, title="freed")


def _store(site: Site, store: str) -> str | None:
    return store_called(site.config, store) if store else None


def _described(row: Increment, exact: bool) -> dict[str, Any]:
    if exact:
        return asdict(row)
    return {
        "snapshot": row.snapshot,
        "volume": row.volume,
        "state": row.state,
        "store": row.store,
        "based on": row.parent or f"nothing: {row.full_reason}",
        "end of chain": row.end_reason,
        "size": size_text(row.size),
        "bytes": size_text(row.physical_size),
        "frozen_seconds": row.frozen_seconds,
        "error": row.error,
    }
