"""Files through the kernel, from one open root, step by step, without following a symbolic link.

    root fd ── openat(O_NOFOLLOW) ──> "v1" ── openat ──> "vol-1" ── openat ──> "snap-2"

A link that somebody put into an export (any client of it may) would lead a path-based write out of the
store. The open root also keeps a store from being written into the bare mount point after an unmount.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...core.spi import Call, Unavailable
from ._folder import Entry, Status
from ._writeback import Writeback

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# O_NONBLOCK: opening a FIFO that somebody put there must not wait for its other end.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class LocalFile:
    """A descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._writeback = Writeback(fd)

    def read(self, size: int, offset: int) -> bytes:
        """Read from an offset."""
        return os.pread(self._fd, size, offset)

    def write(self, data: memoryview) -> int:
        """Append."""
        count = os.write(self._fd, data)
        self._writeback.wrote(count)
        return count

    def sync(self) -> None:
        """Make it durable."""
        os.fsync(self._fd)

    def status(self) -> Status:
        """Return what it is."""
        return _status(os.fstat(self._fd))

    def close(self) -> None:
        """Let go."""
        os.close(self._fd)


class LocalFolder:
    """A descriptor of a directory."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def close(self) -> None:
        """Let go."""
        os.close(self._fd)

    def folder(self, name: str) -> LocalFolder:
        """Open a directory in it."""
        return LocalFolder(os.open(name, _DIRECTORY, dir_fd=self._fd))

    def open(self, name: str) -> LocalFile:
        """Open for reading."""
        return LocalFile(os.open(name, _READ, dir_fd=self._fd))

    def create(self, name: str) -> LocalFile:
        """Create and open."""
        return LocalFile(os.open(name, _CREATE, 0o640, dir_fd=self._fd))

    def status(self, name: str) -> Status:
        """Return what bears the name."""
        return _status(os.stat(name, dir_fd=self._fd, follow_symlinks=False))

    def entries(self) -> Iterator[Entry]:
        """Read the directory; statuses are not among what it tells."""
        with os.scandir(self._fd) as found:
            for entry in found:
                is_directory = entry.is_dir(follow_symlinks=False)
                yield Entry(entry.name, entry.is_file(follow_symlinks=False), is_directory, None)

    def mkdir(self, name: str) -> None:
        """Make a directory."""
        os.mkdir(name, 0o750, dir_fd=self._fd)

    def rmdir(self, name: str) -> None:
        """Remove an empty directory."""
        os.rmdir(name, dir_fd=self._fd)

    def unlink(self, name: str) -> None:
        """Remove a name."""
        os.unlink(name, dir_fd=self._fd)

    def link(self, name: str, target: LocalFolder, final: str) -> None:
        """Add a name."""
        os.link(name, final, src_dir_fd=self._fd, dst_dir_fd=target._fd, follow_symlinks=False)

    def replace(self, name: str, target: LocalFolder, final: str) -> None:
        """Rename over what is there."""
        os.replace(name, final, src_dir_fd=self._fd, dst_dir_fd=target._fd)

    def sync(self) -> None:
        """Make the names durable."""
        os.fsync(self._fd)


class LocalRoot:
    """The open directory."""

    attempts = 1
    answers = True

    def __init__(self, path: Path) -> None:
        self._fd: int | None = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    @contextmanager
    def folder(self, _call: Call) -> Iterator[LocalFolder]:
        """Open it once more: a close by another thread takes nothing from under a running call."""
        if self._fd is None:
            raise Unavailable("the store is closed")
        folder = LocalFolder(os.dup(self._fd))
        try:
            yield folder
        finally:
            folder.close()

    def close(self) -> None:
        """Let go, so that the file system can be unmounted."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


def _status(found: os.stat_result) -> Status:
    return Status(
        size=found.st_size,
        inode=found.st_ino,
        mtime_ns=found.st_mtime_ns,
        is_file=stat.S_ISREG(found.st_mode),
        is_directory=stat.S_ISDIR(found.st_mode),
    )
