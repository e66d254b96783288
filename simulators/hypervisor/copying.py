"""Sparse, durable copies of image files."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path


def copy_sparse(source: Path, target: Path) -> None:
    """Copies a file with its holes and fsyncs it; shares blocks where the file system can (reflink)."""
    with source.open("rb") as reader, target.open("wb") as writer:
        size = os.fstat(reader.fileno()).st_size
        writer.truncate(size)
        for start, end in _data(reader.fileno(), size):
            _copy_range(reader.fileno(), writer.fileno(), start, end)
        os.fsync(writer.fileno())
    sync_directory(target.parent)


def _data(handle: int, size: int) -> Iterator[tuple[int, int]]:
    at = 0
    while at < size:
        try:
            start = os.lseek(handle, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        at = os.lseek(handle, start, os.SEEK_HOLE)
        yield start, at


def _copy_range(reader: int, writer: int, start: int, end: int) -> None:
    while start < end:
        copied = _copy_some(reader, writer, start, end - start)
        if copied == 0:
            raise OSError(errno.EIO, "the source became shorter while it was copied")
        start += copied


def _copy_some(reader: int, writer: int, at: int, length: int) -> int:
    try:
        return os.copy_file_range(reader, writer, length, at, at)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
    return os.pwrite(writer, os.pread(reader, min(length, 2**20), at), at)


def sync_directory(path: Path) -> None:
    """Makes renames and new names in a directory durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
