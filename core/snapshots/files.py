"""Archived snapshots as plain image files, and plain image files as archived snapshots.

export:  <path>.<token>.part ── filled, flushed ── link ──> <path>     never half a file of that name

A killed export leaves its .part, which may be deleted. The token keeps two exports to one path apart: with
a common name the second would fill what the first one links.
"""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from pathlib import Path

from ...transfer_objects.ids import SnapshotId, VolumeId
from ..archive import Archive, Compression, CreateOptions, Manifest
from ..dataplane import BlockSink, BlockSource, Window, open_sink, open_source
from ..dataplane.foreign import ImageFormat, open_foreign_sink, open_foreign_source
from ..dataplane.os_errors import os_errors
from ..dataplane.qemu_img import create_image
from ..spi import Call, Conflict, FileLocation, InvalidArgument
from .origin import origin_of
from .ranges import copy_range


def export_image(
    archive: Archive,
    volume: VolumeId,
    snapshot: SnapshotId,
    path: Path,
    image_format: ImageFormat,
    call: Call,
    *,
    window: Window | None = None,
) -> Manifest:
    """Write an archived snapshot to a new image file; holes stay holes.

    Args:
        window: (offset, length) in bytes; the file has these alone, and nothing else is fetched.

    Raises:
        Conflict: `path` exists.
        NotFound: no such snapshot, or no such directory.
        InvalidArgument: the window leaves the image.
        LimitExceeded: the format cannot hold so much (VHD: 2040 GiB).
        Unsupported: qemu-img is not installed.
    """
    if os.path.lexists(path):
        raise Conflict(f"{path} exists: it is not overwritten")
    manifest = archive.show(call, volume=volume, snapshot=snapshot)
    offset, length = window or (0, manifest.size)
    if min(offset, length) < 0 or offset + length > manifest.size:
        raise InvalidArgument(f"the range {offset}:{length} lies outside of the {manifest.size} bytes")
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        _create(part, length, image_format, call)
        with _open_new(part, image_format) as sink:
            if window is None:
                archive.restore(sink, call, volume=volume, snapshot=snapshot, sink_is_zero=True)
            else:
                copy_range(
                    archive, volume, snapshot, sink, call, offset=offset, length=length, sink_is_zero=True
                )
        _give_name(part, path)
    finally:
        with suppress(OSError):  # it must not hide what went wrong before
            part.unlink()
    return manifest


def _create(part: Path, size: int, image_format: ImageFormat, call: Call) -> None:
    with os_errors(f"cannot create {part}"), part.open("xb") as file:
        file.truncate(size if image_format == "raw" else 0)
    if image_format == "raw":
        return
    create_image(part, size, call, image_format=image_format)


def _open_new(part: Path, image_format: ImageFormat) -> BlockSink:
    match image_format:
        case "raw" | "qcow2":
            return open_sink(FileLocation(path=part, format=image_format))
        case _:
            return open_foreign_sink(part, image_format)


def _give_name(part: Path, path: Path) -> None:
    with os_errors(f"cannot give {part} the name {path.name}"):
        try:
            os.link(part, path)  # unlike rename, it refuses to replace what appeared meanwhile
        except FileExistsError as error:
            raise Conflict(f"{path} appeared meanwhile: it is not overwritten") from error
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP) or os.path.lexists(path):
                raise
            part.rename(path)  # FAT, SMB and some FUSE file systems have no hard links


def import_image(
    archive: Archive,
    path: Path,
    image_format: ImageFormat,
    volume: VolumeId,
    snapshot: SnapshotId,
    call: Call,
    compression: Compression = "stored",
) -> Manifest:
    """Archive an image file as a snapshot. Its format is stated, never guessed (CVE-2024-32498).

    Raises:
        NotFound: no such file.
        InvalidArgument: not of that format, or it refers to other files.
        Unsupported: the library of that compression is missing.
    """
    with _open_existing(path.absolute(), image_format) as source:
        options = CreateOptions(origin=origin_of(f"file {path.name}"), compression=compression)
        return archive.create(source, call, volume=volume, snapshot=snapshot, options=options)


def _open_existing(path: Path, image_format: ImageFormat) -> BlockSource:
    match image_format:
        case "raw" | "qcow2":
            return open_source(FileLocation(path=path, format=image_format, read_only=True))
        case _:
            return open_foreign_source(path, image_format)
