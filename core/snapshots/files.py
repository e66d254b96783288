"""Archived snapshots as plain image files, and plain image files as archived snapshots.

export:  <path>.part ── filled, flushed ── rename ──> <path>      never half a file of that name
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from ...transfer_objects.ids import SnapshotId, VolumeId
from ..archive import Archive, CreateOptions, Manifest
from ..dataplane import open_sink, open_source
from ..spi import Call, Conflict, DiskFormat, FileLocation, Internal, Unavailable


def export_image(
    archive: Archive, volume: VolumeId, snapshot: SnapshotId, path: Path, disk_format: DiskFormat, call: Call
) -> Manifest:
    """Write an archived snapshot to a new image file; holes stay holes.

    Raises:
        Conflict: `path` exists.
    """
    if path.exists():
        raise Conflict(f"{path} exists: it is not overwritten")
    size = archive.show(call, volume=volume, snapshot=snapshot).size
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)  # of an export that was killed
    try:
        _create(part, size, disk_format, call)
        with open_sink(FileLocation(path=part, format=disk_format)) as sink:
            manifest = archive.restore(sink, call, volume=volume, snapshot=snapshot, sink_is_zero=True)
            sink.flush()
        os.link(part, path)  # unlike rename, it refuses to replace what appeared meanwhile
    except FileExistsError as error:
        raise Conflict(f"{path} appeared meanwhile: it is not overwritten") from error
    finally:
        part.unlink(missing_ok=True)
    return manifest


def _create(path: Path, size: int, disk_format: DiskFormat, call: Call) -> None:
    if disk_format == "raw":
        with path.open("xb") as file:
            file.truncate(size)
        return
    command = ["qemu-img", "create", "-q", "-f", disk_format, "--", str(path.absolute()), str(size)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=call.remaining())
    except FileNotFoundError as error:
        raise Unavailable("qemu-img is not installed: apt-get install qemu-utils") from error
    except subprocess.CalledProcessError as error:
        raise Internal(f"qemu-img could not create {path}: {error.stderr.strip()}") from error


def import_image(
    archive: Archive, path: Path, disk_format: DiskFormat, volume: VolumeId, snapshot: SnapshotId, call: Call
) -> Manifest:
    """Archive an image file as a snapshot. Its format is stated, never guessed (CVE-2024-32498).

    Raises:
        NotFound: no such file.
        InvalidArgument: not of that format, or it refers to other files.
    """
    with open_source(FileLocation(path=path.absolute(), format=disk_format, read_only=True)) as source:
        options = CreateOptions(origin=f"file {path.name}"[:200].encode("ascii", "replace").decode())
        return archive.create(source, call, volume=volume, snapshot=snapshot, options=options)
