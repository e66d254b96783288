"""One lock per object, seen by every process and every host that mounts the pool.

A lock is an empty file with flock(2) on it (NFS clients turn that into a lock on the server). The
kernel drops it when the last process that holds the descriptor dies: a killed orchestrator leaves no
lock, but a qemu-img that outlives it still holds the one it was started under.

    take    open(O_CREAT) -> flock -> is the path still this inode?  no: it was removed, again
    drop    flock(EX) -> is the path still this inode? unlink -> close
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ....core.spi import Busy

_ATTEMPTS = 10


class ObjectLocks:
    """Locks by name below one directory, which must exist when a lock is taken."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @contextmanager
    def hold(self, exclusive: Iterable[str], shared: Iterable[str] = ()) -> Iterator[tuple[int, ...]]:
        """Hold all of the locks or none; yields the descriptors for child processes to inherit.

        Raises:
            Busy: somebody else works on one of the objects.
        """
        wanted = dict.fromkeys(shared, fcntl.LOCK_SH) | dict.fromkeys(exclusive, fcntl.LOCK_EX)
        held: dict[str, int] = {}
        try:
            for name in sorted(wanted):
                held[name] = self._take(name, wanted[name])
            yield tuple(held.values())
        finally:
            for name, fd in held.items():
                self._drop(name, fd)

    def names(self) -> list[str]:
        """Return the names of the lock files that exist, held or left behind."""
        return sorted(path.name for path in self.directory.iterdir()) if self.directory.is_dir() else []

    def _take(self, name: str, mode: int) -> int:
        path = self.directory / name
        for _ in range(_ATTEMPTS):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(fd, mode | fcntl.LOCK_NB)
                if _is_at(fd, path):
                    return fd
            except BlockingIOError as error:
                os.close(fd)
                raise Busy(f"another operation on {name} is running") from error
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)
        raise Busy(f"the lock of {name} changes hands too often")

    def _drop(self, name: str, fd: int) -> None:
        path = self.directory / name
        try:
            # A shared holder may only remove the file when it is the last one.
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(fd, path):
                path.unlink()
        except OSError:
            return  # held by others, or the directory is gone; a lock file that stays is swept by `open`
        finally:
            os.close(fd)


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.lstat())
    except FileNotFoundError:
        return False
