"""QEMU's image lock, spoken from here: nobody copies or replaces a file that a QEMU has open.

QEMU (since 2.10, block/file-posix.c) marks what it does with an image by locks on single bytes of it:

    byte 100 + n   permission n is used             n: 0 consistent read, 1 write, 3 resize
    byte 200 + n   permission n is not shared

`qemu-img info` without -U sees a writer only; the locks show readers too (seen with qemu-nbd -r: bytes
100, 201, 203), and holding them keeps a QEMU from starting while a copy runs: it fails with 'Failed to
get "write" lock'. They are open-file-description locks, so threads and forks don't lose them.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..spi.errors import InUse
from .file import open_nofollow

_FLOCK = struct.Struct("hhqqi4x")  # struct flock: type, whence, start, length, pid
_USES_READ, _USES_WRITE, _USES_RESIZE = 100, 101, 103
_KEEPS_READ, _KEEPS_WRITE, _KEEPS_RESIZE = 200, 201, 203
_FIRST, _COUNT = 100, 200  # all bytes that mean something


@contextmanager
def reading(path: Path) -> Iterator[int]:
    """Hold the lock of a reader who suffers no writer; yields the descriptor.

    Raises:
        InUse: some QEMU may write to the image.
    """
    fd = open_nofollow(path, writable=False)
    try:
        for byte in (_USES_READ, _KEEPS_WRITE, _KEEPS_RESIZE):
            _lock(fd, byte, 1)
        for byte in (_USES_WRITE, _USES_RESIZE, _KEEPS_READ):
            _refuse_others(fd, byte, 1, path)
        yield fd
    finally:
        os.close(fd)


@contextmanager
def alone(path: Path, *, writable: bool = False) -> Iterator[int]:
    """Hold the lock of the only user; yields the descriptor.

    Raises:
        InUse: some QEMU has the image open, even if it only reads.
    """
    fd = open_nofollow(path, writable=writable)
    try:
        _lock(fd, _FIRST, _COUNT)
        _refuse_others(fd, _FIRST, _COUNT, path)
        yield fd
    finally:
        os.close(fd)


def _lock(fd: int, start: int, length: int) -> None:
    # QEMU's own way: everybody takes read locks only, and looks for others afterwards. So a lock
    # never fails, and of two who come at once at least one sees the other.
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, start, length, 0))


def _refuse_others(fd: int, start: int, length: int, path: Path) -> None:
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
    answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked)
    if _FLOCK.unpack(answer)[0] != fcntl.F_UNLCK:
        raise InUse(f"{path.name} is open in a running QEMU process")
