"""Raw files and block devices.

Reads and writes carry their own offset (preadv, pwrite), so clones share one open file and need no
lock. They share the *file*, too, not the path: a rename in between cannot mix two images.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from ..spi.errors import DataLoss, InvalidArgument, Outcome
from ..spi.model import Extent, ExtentKind
from .os_errors import error_of, os_errors
from .zero import ZEROS

# Linux, <linux/falloc.h>. Python's os.posix_fallocate takes no mode.
_PUNCH_HOLE_KEEP_SIZE = 0x02 | 0x01
# Answers of file systems and devices that cannot punch: zeros are written instead.
_CANNOT_PUNCH = {errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY, errno.ENODEV}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def open_nofollow(path: Path, *, writable: bool) -> int:
    """Open a regular file or block device and return its descriptor.

    The last component must not be a symbolic link (a tenant who can place a link would read any
    file of the host). O_NONBLOCK: opening a FIFO would otherwise wait for a writer for ever.

    Raises:
        NotFound, PermissionDenied: as the kernel says.
        InvalidArgument: it is a link, or neither a file nor a block device.
    """
    flags = os.O_RDWR if writable else os.O_RDONLY
    with os_errors(f"cannot open {path}"):
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        os.close(fd)
        raise InvalidArgument(f"{path} is neither a regular file nor a block device")
    return fd


class FileSource:
    """A raw file or block device, readable.

    Args:
        path: where it is, for messages.
        fd: an open descriptor; owned from now on.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
        self._fd = fd
        self._size = os.lseek(fd, 0, os.SEEK_END)  # st_size of a block device is 0

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open `path`; see `open_nofollow` for what is refused."""
        return cls(path, open_nofollow(path, writable=False))

    @property
    def size(self) -> int:
        """Size in bytes when it was opened."""
        return self._size

    def clone(self) -> Self:
        """Return another source or sink on the same open file."""
        with os_errors(f"cannot open {self._path} again"):
            return type(self)(self._path, os.dup(self._fd))

    def close(self) -> None:
        """Close; repeatable."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """Yield DATA and HOLE extents that cover the range, as the file system knows them."""
        self._check_range(offset, length)
        position, end = offset, offset + length
        while position < end:
            data = min(end, self._seek(position, os.SEEK_DATA))
            if data > position:
                yield Extent(position, data - position, ExtentKind.HOLE)
            if data < end:
                hole = min(end, self._seek(data, os.SEEK_HOLE))
                yield Extent(data, hole - data, ExtentKind.DATA)
                data = hole
            position = data

    def _seek(self, position: int, whence: int) -> int:
        try:
            return os.lseek(self._fd, position, whence)
        except OSError as error:
            if error.errno == errno.ENXIO:  # no data from here to the end
                return self._size
            if error.errno == errno.EINVAL:  # a device or file system that cannot tell
                return position if whence == os.SEEK_DATA else self._size
            raise error_of(
                error.errno or 0, f"cannot map {self._path}", outcome=Outcome.NOT_APPLIED
            ) from error

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill all of `buffer`.

        Raises:
            DataLoss: the file ends early (it was truncated after it was opened), or EIO.
        """
        self._check_range(offset, len(buffer))
        done = 0
        while done < len(buffer):
            with os_errors(f"cannot read {self._path} at {offset + done}"):
                count = os.preadv(self._fd, [buffer[done:]], offset + done)
            if count == 0:
                raise DataLoss(f"{self._path} ends at {offset + done}, it had {self._size} bytes when opened")
            done += count

    def _check_range(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self._size:
            raise InvalidArgument(f"{length} bytes at {offset} lie outside of the {self._size} bytes")


class FileSink(FileSource):
    """A raw file or block device, writable; its size stays what it was at `open`."""

    _punch = True

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open `path` for writing; see `open_nofollow` for what is refused."""
        return cls(path, open_nofollow(path, writable=True))

    def write(self, offset: int, data: memoryview | bytes) -> None:
        """Write all of `data`."""
        view = memoryview(data)
        self._check_range(offset, len(view))
        done = 0
        while done < len(view):
            with os_errors(f"cannot write {self._path} at {offset + done}", outcome=Outcome.UNKNOWN):
                done += os.pwrite(self._fd, view[done:], offset + done)

    def zero(self, offset: int, length: int) -> None:
        """Punch a hole; where the file system or device refuses, write zeros."""
        self._check_range(offset, length)
        if length == 0 or (self._punch and self._punched(offset, length)):
            return
        self._punch = False
        for start in range(offset, offset + length, len(ZEROS)):
            self.write(start, ZEROS[: min(len(ZEROS), offset + length - start)])

    def _punched(self, offset: int, length: int) -> bool:
        while _libc.fallocate(self._fd, _PUNCH_HOLE_KEEP_SIZE, offset, length) != 0:
            number = ctypes.get_errno()
            if number in _CANNOT_PUNCH:
                return False
            if number != errno.EINTR:
                raise error_of(number, f"cannot punch {self._path} at {offset}", outcome=Outcome.UNKNOWN)
        return True

    def flush(self) -> None:
        """fsync: what any clone wrote survives a power cut."""
        with os_errors(f"cannot flush {self._path}", outcome=Outcome.UNKNOWN):
            os.fsync(self._fd)
