"""`bollard pool …`: volumes and snapshots on primary storage."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from ..core.migration import VolumeMigration
from ..core.pool import Pool
from ..core.spi import Qos, Snapshot, Volume, VolumeSpec
from ..transfer_objects.ids import SnapshotId, VolumeId
from . import context
from .context import JsonFlag, PoolName
from .jobs import job
from .output import out, show, show_rows, size_text
from .sizes import Size

app = typer.Typer(help="Volumes and snapshots on primary storage.", no_args_is_help=True)

VolumeArg = Annotated[str, typer.Argument(help="The volume's id.")]
SnapshotArg = Annotated[str, typer.Argument(help="The snapshot's id.")]


@app.command("list")
def list_pools(ctx: typer.Context, json: JsonFlag = False) -> None:
    """List the pools of the configuration."""
    rows = [{"pool": b.name, "driver": b.driver} for b in context.config(ctx).pools.values()]
    show_rows(rows, as_json=json, empty="The configuration has no pool.")


@app.command("show")
def show_pool(ctx: typer.Context, pool: PoolName = "", json: JsonFlag = False) -> None:
    """Show a pool: identity, capabilities, capacity."""
    with context.pool(ctx, pool) as opened:
        show(_describe(opened, json), as_json=json, title=opened.name)


def _describe(pool: Pool, exact: bool) -> dict[str, Any]:
    able = pool.capabilities()
    body: dict[str, Any] = {
        "name": pool.name,
        "identity": pool.info.identity,
        "backend": pool.info.backend,
        "managed": pool.managed,
        "capabilities": sorted(c.value for c in able.native),
        "unavailable": {c.value: why for c, why in able.unavailable.items()},
        "caps": dict(able.caps),
    }
    if "capacity" in body["capabilities"]:
        figures = dataclasses.asdict(pool.capacity())
        body |= figures if exact else {name: size_text(size) for name, size in figures.items()}
    return body


@app.command()
def volumes(ctx: typer.Context, pool: PoolName = "", json: JsonFlag = False) -> None:
    """List the volumes of a pool."""
    with context.pool(ctx, pool) as opened:
        rows = [_volume_row(v, json) for v in opened.volumes.list()]
    show_rows(rows, as_json=json, empty="No volumes.")


def _volume_row(volume: Volume, exact: bool) -> dict[str, Any]:
    allocated = volume.allocated
    return {
        "id": volume.id,
        "name": volume.name,
        "size": volume.size if exact else size_text(volume.size),
        "allocated": allocated if exact or allocated is None else size_text(allocated),
        "identity": volume.identity,
    }


@app.command()
def create(
    ctx: typer.Context,
    volume: VolumeArg,
    size: Annotated[int, typer.Argument(parser=Size, help="Bytes, or 10GiB, 512MiB…")],
    pool: PoolName = "",
    name: Annotated[str, typer.Option(help="What people call it.")] = "",
    max_iops: Annotated[int | None, typer.Option(help="Limit of operations per second.")] = None,
    json: JsonFlag = False,
) -> None:
    """Create a volume; repeating the command changes nothing."""
    qos = None if max_iops is None else Qos(max_iops=max_iops)
    with context.pool(ctx, pool) as opened:
        made = opened.volumes.create(VolumeSpec(id=VolumeId(volume), size=size, name=name, qos=qos))
    show(_volume_row(made, json), as_json=json)


@app.command()
def delete(ctx: typer.Context, volume: VolumeArg, pool: PoolName = "") -> None:
    """Delete a volume; a missing one is fine."""
    with context.pool(ctx, pool) as opened:
        opened.volumes.delete(VolumeId(volume))
    out.print(f"deleted {volume}")


@app.command()
def resize(
    ctx: typer.Context,
    volume: VolumeArg,
    size: Annotated[int, typer.Argument(parser=Size, help="Bytes, or 10GiB, 512MiB…")],
    pool: PoolName = "",
    json: JsonFlag = False,
) -> None:
    """Grow a volume."""
    with context.pool(ctx, pool) as opened:
        grown = opened.volumes.resize(VolumeId(volume), size)
    show(_volume_row(grown, json), as_json=json)


@app.command()
def snapshot(
    ctx: typer.Context, volume: VolumeArg, snapshot: SnapshotArg, pool: PoolName = "", json: JsonFlag = False
) -> None:
    """Take a snapshot that stays on the pool."""
    with context.pool(ctx, pool) as opened:
        taken = opened.snapshots.create(VolumeId(volume), SnapshotId(snapshot))
    show(_snapshot_row(taken, json), as_json=json)


@app.command()
def snapshots(ctx: typer.Context, volume: VolumeArg, pool: PoolName = "", json: JsonFlag = False) -> None:
    """List the snapshots of a volume on the pool."""
    with context.pool(ctx, pool) as opened:
        rows = [_snapshot_row(s, json) for s in opened.snapshots.list(VolumeId(volume))]
    show_rows(rows, as_json=json, empty="No snapshots.")


def _snapshot_row(snapshot: Snapshot, exact: bool) -> dict[str, Any]:
    return {
        "id": snapshot.id,
        "volume": snapshot.volume,
        "size": snapshot.size if exact else size_text(snapshot.size),
        "created": snapshot.created.isoformat(),
    }


@app.command("delete-snapshot")
def delete_snapshot(ctx: typer.Context, snapshot: SnapshotArg, pool: PoolName = "") -> None:
    """Delete a snapshot from the pool; a missing one is fine."""
    with context.pool(ctx, pool) as opened:
        opened.snapshots.delete(SnapshotId(snapshot))
    out.print(f"deleted {snapshot}")


@app.command()
def revert(ctx: typer.Context, volume: VolumeArg, snapshot: SnapshotArg, pool: PoolName = "") -> None:
    """Put a volume back to one of its snapshots."""
    with context.pool(ctx, pool) as opened:
        opened.volumes.revert(VolumeId(volume), SnapshotId(snapshot))
    out.print(f"{volume} is back at {snapshot}")


@app.command()
def migrate(
    ctx: typer.Context,
    volume: VolumeArg,
    to: Annotated[str, typer.Option(help="The pool that gets it.")],
    pool: PoolName = "",
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Read both back and compare before the old one goes.")
    ] = True,
    drop_limits: Annotated[
        bool, typer.Option("--drop-limits", help="Also to a pool that cannot limit it as it is limited now.")
    ] = False,
    drop_snapshots: Annotated[
        bool, typer.Option("--drop-snapshots", help="Its snapshots on the old pool go with it.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Move a volume that nobody uses to another pool. Repeat the command after any failure."""
    with context.pool(ctx, pool) as source, context.pool(ctx, to) as target:
        migration = VolumeMigration(
            source=source,
            target=target,
            mover=context.mover(ctx),
            verify=verify,
            keep_limits=not drop_limits,
            drop_snapshots=drop_snapshots,
        )
        with job(ctx, f"moving {volume} to {target.name}", json) as call:
            moved = migration.migrate(VolumeId(volume), call)
    show(_volume_row(moved, json), as_json=json, title=f"on {target.name}")


@app.command()
def sweep(
    ctx: typer.Context,
    pool: PoolName = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list.")] = False,
    json: JsonFlag = False,
) -> None:
    """Remove what crashed commands of this machine left on a pool: clones, grants, half-filled volumes."""
    with context.pool(ctx, pool) as opened:
        found = context.mover(ctx).sweep_pool(opened, dry_run=dry_run)
    show_rows([{"object": line} for line in found], as_json=json, empty="Nothing was left behind.")
