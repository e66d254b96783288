"""`bollard archive …`: snapshots on secondary storage."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from ..core.archive import Level, Manifest, Report
from ..core.backends import LONGEST
from ..core.dataplane.foreign import ImageFormat
from ..core.pool import Pool
from ..core.snapshots import VolumeSnapshots, export_image, import_image
from ..core.spi import Call, Capability
from ..transfer_objects.ids import SnapshotId, VolumeId, new_id
from . import context
from .context import CompressionOption, JsonFlag, PoolName, StoreName
from .jobs import TrustListing
from .jobs import job as _job
from .jobs import known as _known
from .jobs import open_archive as _archive
from .lazy import lazy_group
from .output import err, out, print_json, show, show_rows, size_text
from .sizes import Range

_MORE = {
    "copy": "archive_copy",
    "serve": "archive_serve",
    "stats": "archive_stats",
    "retain": "archive_keep",
    "check-up": "archive_check",
    "fleet": "archive_fleet",
    "plan": "archive_plan",
}
app = typer.Typer(help="Snapshots on secondary storage.", no_args_is_help=True, cls=lazy_group(_MORE))

VolumeArg = Annotated[str, typer.Argument(help="The volume's id.")]
SnapshotArg = Annotated[str, typer.Argument(help="The snapshot's id.")]
FormatOption = Annotated[
    ImageFormat, typer.Option("--format", help="Format of the file, never guessed; vpc is VHD.")
]


RangeOption = Annotated[
    str, typer.Option("--range", metavar="OFFSET:LENGTH", help="Only these bytes, such as 1GiB:64MiB.")
]


@app.command()
def create(
    ctx: typer.Context,
    volume: VolumeArg,
    snapshot: Annotated[str, typer.Argument(help="Its id; without one a fresh id is made.")] = "",
    pool: PoolName = "",
    store: StoreName = "",
    parent: Annotated[
        str, typer.Option(help="Increment to this archived snapshot; 'auto': the newest; 'none': a full.")
    ] = "auto",
    keep: Annotated[
        bool | None,
        typer.Option(
            "--keep/--release",
            help="Keep the primary snapshot; by default only where the pool tracks changes to the next one.",
        ),
    ] = None,
    compression: CompressionOption = "stored",
    json: JsonFlag = False,
) -> None:
    """Snapshot a volume and archive it. Repeat the command with the same ids after any failure."""
    ids = VolumeId(volume), SnapshotId(snapshot or new_id("snap"))
    if not snapshot:
        err.print(f"The snapshot's id is {ids[1]}.")  # who repeats the command needs it
    with context.pool(ctx, pool) as opened, _archive(ctx, store) as archive:
        service = VolumeSnapshots(
            pool=opened, archive=archive, mover=context.mover(ctx), compression=compression
        )
        with _job(ctx, f"archiving {ids[0]}/{ids[1]}", json) as call:
            service.take_both(*ids, call, parent=_parent(service, *ids, parent, call))
            if not (keep if keep is not None else _tracks_changes(opened)):
                service.release(*ids, call)
            manifest = archive.show(call, volume=ids[0], snapshot=ids[1])
    show(_describe(manifest, json), as_json=json, title="archived")


def _parent(
    service: VolumeSnapshots, volume: VolumeId, snapshot: SnapshotId, asked: str, call: Call
) -> SnapshotId | None:
    if asked == "none":
        return None
    if asked != "auto":
        return SnapshotId(asked)
    newest = service.newest(volume, call)
    return None if newest == snapshot else newest  # a repeated command, which finds it archived


def _tracks_changes(pool: Pool) -> bool:
    """Tell whether a kept snapshot saves the next archive any reading; else it only costs space."""
    return Capability.CHANGED_BLOCKS in pool.capabilities().native


def _describe(manifest: Manifest, exact: bool) -> dict[str, Any]:
    stored = sum(p.size for w, p in manifest.parts() if p.layer.partition("/")[0] == manifest.snapshot)
    needed = sum(part.size for _, part in manifest.parts())
    return {
        "volume": manifest.volume,
        "snapshot": manifest.snapshot,
        "parent": manifest.parent,
        "created": manifest.created,
        "size": manifest.size if exact else size_text(manifest.size),
        "stored": stored if exact else size_text(stored),
        "reads": needed if exact else size_text(needed),
        "parts": sum(1 for _ in manifest.parts()),
        "digest": manifest.digest,
    }


@app.command("list")
def list_snapshots(
    ctx: typer.Context,
    volume: Annotated[str, typer.Option(help="Only this volume's.")] = "",
    store: StoreName = "",
    json: JsonFlag = False,
) -> None:
    """List the snapshots in a store."""
    with _archive(ctx, store) as archive:
        call = Call.within(LONGEST)
        rows = [
            _describe(archive.show(call, volume=e.volume, snapshot=e.snapshot), json)
            for e in archive.list(call, volume=volume or None)
        ]
    if not json:
        for row in rows:
            del row["digest"]  # 64 characters that nobody reads in a table; `show` has them
    show_rows(rows, as_json=json, empty="The archive is empty.")


@app.command("show")
def show_snapshot(
    ctx: typer.Context,
    volume: VolumeArg,
    snapshot: SnapshotArg,
    store: StoreName = "",
    json: JsonFlag = False,
) -> None:
    """Show one archived snapshot."""
    with _archive(ctx, store) as archive:
        manifest = archive.show(Call.within(), volume=volume, snapshot=snapshot)
    show(_describe(manifest, json), as_json=json)


@app.command()
def verify(
    ctx: typer.Context,
    volume: VolumeArg,
    snapshot: SnapshotArg,
    store: StoreName = "",
    level: Annotated[
        int, typer.Option(min=1, max=5, help="1 there, 2 CRC, 3 checksums, 4 part digests, 5 whole image.")
    ] = 4,
    percent: Annotated[float, typer.Option(help="Check only a sample of this many percent.")] = 100.0,
    seed: Annotated[int, typer.Option(help="Which sample.")] = 0,
    json: JsonFlag = False,
) -> None:
    """Check an archived snapshot; exit code 8 if it is damaged."""
    title = f"verifying {volume}/{snapshot}"
    with _archive(ctx, store) as archive, _job(ctx, title, json, steps=True) as call:
        report = archive.verify(
            call, volume=volume, snapshot=snapshot, level=Level(level), percent=percent, seed=seed
        )
    _show_report(report, json)
    if not report.ok:
        raise typer.Exit(8)


def _show_report(report: Report, json: bool) -> None:
    if json:
        body = {"level": int(report.level), "windows": report.windows, "parts": report.parts}
        print_json(body | {"size": report.size, "problems": [p.message for p in report.problems]})
        return
    for problem in report.problems:
        err.print(f"[red]damaged[/red]: {escape(problem.message)}", soft_wrap=True)
    verdict = "[green]whole[/green]" if report.ok else f"[red]{len(report.problems)} problems[/red]"
    out.print(f"{report.parts} parts, {size_text(report.size)}, level {report.level.name}: {verdict}")


@app.command()
def restore(
    ctx: typer.Context,
    volume: VolumeArg,
    snapshot: SnapshotArg,
    target: Annotated[str, typer.Argument(help="Id of the new volume; with --range of one that exists.")],
    pool: PoolName = "",
    store: StoreName = "",
    only: RangeOption = "",
    name: Annotated[str, typer.Option(help="What people call the new volume.")] = "",
    json: JsonFlag = False,
) -> None:
    """Restore an archived snapshot into a new volume on any pool; every byte is checked.

    With --range: overwrite these bytes of a detached volume with what the snapshot has there.
    """
    window = Range(only) if only else None
    with context.pool(ctx, pool) as opened, _archive(ctx, store) as archive:
        service = VolumeSnapshots(pool=opened, archive=archive, mover=context.mover(ctx))
        with _job(ctx, f"restoring to {target}", json) as call:
            what = VolumeId(volume), SnapshotId(snapshot), VolumeId(target), call
            if window is None:
                made = service.restore(*what, name=name)
            else:
                made = service.restore_range(*what, offset=window[0], length=window[1])
    show({"volume": made.id, "size": made.size, "identity": made.identity}, as_json=json, title="restored")


@app.command()
def delete(
    ctx: typer.Context,
    volume: VolumeArg,
    snapshot: SnapshotArg,
    store: StoreName = "",
    trust: TrustListing = False,
    json: JsonFlag = False,
) -> None:
    """Delete an archived snapshot and free what it alone used; a missing one is fine."""
    with _archive(ctx, store) as archive:
        call = Call.within(LONGEST)
        known = _known(archive, volume, trust, call)
        known = None if known is None else [one for one in known if one != snapshot]
        freed = archive.delete(call, volume=volume, snapshot=snapshot, known=known)
    # None: the listing may lag, the space is freed by the next collect.
    body = {"deleted": f"{volume}/{snapshot}", "freed": None if freed is None else freed.size}
    show(body, as_json=json)


@app.command()
def collect(
    ctx: typer.Context,
    volume: Annotated[str, typer.Argument(help="Only this volume.")] = "",
    store: StoreName = "",
    trust: TrustListing = False,
    json: JsonFlag = False,
) -> None:
    """Free what no snapshot needs: parts of killed runs and of deleted snapshots."""
    with _archive(ctx, store) as archive:
        call = Call.within(LONGEST)
        volumes = [volume] if volume else archive.volumes(call)
        found = {v: archive.collect(call, volume=v, known=_known(archive, v, trust, call)) for v in volumes}
    rows = [{"volume": v, **asdict(collected)} for v, collected in found.items()]
    show_rows(rows, as_json=json, empty="Nothing to collect.")


@app.command("export")
def export_snapshot(
    ctx: typer.Context,
    volume: VolumeArg,
    snapshot: SnapshotArg,
    path: Annotated[Path, typer.Argument(help="The new file.", dir_okay=False)],
    image_format: FormatOption = "qcow2",
    only: RangeOption = "",
    store: StoreName = "",
    json: JsonFlag = False,
) -> None:
    """Write an archived snapshot, or a range of it, to a new image file."""
    window = Range(only) if only else None
    with _archive(ctx, store) as archive, _job(ctx, f"exporting to {path.name}", json) as call:
        what = VolumeId(volume), SnapshotId(snapshot)
        manifest = export_image(archive, *what, path, image_format, call, window=window)
    size = window[1] if window else manifest.size
    show({"file": str(path), "size": size}, as_json=json, title="exported")


@app.command("import")
def import_snapshot(
    ctx: typer.Context,
    path: Annotated[Path, typer.Argument(help="The image file.", exists=True, dir_okay=False)],
    volume: VolumeArg,
    snapshot: SnapshotArg,
    image_format: FormatOption = "qcow2",
    store: StoreName = "",
    compression: CompressionOption = "stored",
    json: JsonFlag = False,
) -> None:
    """Archive an existing image file as a snapshot."""
    with _archive(ctx, store) as archive, _job(ctx, f"importing {path.name}", json) as call:
        ids = VolumeId(volume), SnapshotId(snapshot)
        manifest = import_image(archive, path, image_format, *ids, call, compression)
    show(_describe(manifest, json), as_json=json, title="imported")
