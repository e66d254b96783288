r"""A directory tree that is reached from one open root, step by step, without following a symbolic link.

    root fd ── openat(O_NOFOLLOW) ──> "v1" ── openat ──> "vol-1" ── openat ──> "snap-2"

A link that somebody put into an export (any client of it may) would lead a path-based write out of the
store. The open root also keeps a store from being written into the bare mount point after an unmount.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from ...core.spi import Unavailable
from ._keys import is_foreign

T = TypeVar("T")

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# How often a directory may be pruned by another client between our mkdir and our use of it.
_RACES = 20


class Found(NamedTuple):
    """A file of the tree: path relative to where the walk began, '/'-separated."""

    path: str
    status: os.stat_result


class Tree:
    """Files under `root`. Methods raise `OSError`; the driver translates."""

    def __init__(self, root: Path) -> None:
        self._root: int | None = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Let go of the root, so that the file system can be unmounted; repeatable."""
        root, self._root = self._root, None
        if root is not None:
            os.close(root)

    @contextmanager
    def directory(self, parts: Sequence[str], *, create: bool = False) -> Iterator[int]:
        """Open a directory by its parts, making it durably if `create`; the fd is closed afterwards."""
        if self._root is None:
            raise Unavailable("the store is closed")
        fd = os.dup(self._root)
        try:
            for part in parts:
                parent, fd = fd, _step(fd, part, create=create)
                os.close(parent)
            yield fd
        finally:
            os.close(fd)

    def inside(self, parts: Sequence[str], act: Callable[[int], T]) -> T:
        """Run `act` on a directory that is made if needed, again if a prune took it away meanwhile."""
        for attempt in range(_RACES):
            with suppress_missing(attempt < _RACES - 1), self.directory(parts, create=True) as fd:
                return act(fd)
        raise AssertionError("the last attempt returns or raises")

    def prune(self, parts: Sequence[str], keep: int = 0) -> None:
        """Remove a directory and its parents, all but the first `keep`, as long as they are empty.

        rmdir refuses a directory that another put has just filled; one that it has just opened goes
        away under it, which `inside` repairs.
        """
        for depth in range(len(parts), keep, -1):
            try:
                with self.directory(parts[: depth - 1]) as fd:
                    os.rmdir(parts[depth - 1], dir_fd=fd)
            except OSError:  # not empty, gone already, or not ours to remove: the tree is as good with it
                return

    def walk(self, base: Sequence[str], *, prefix: str = "", after: str = "") -> Iterator[Found]:
        """Yield the files under `base`, sorted by the UTF-8 bytes of their path.

        One directory's names are in memory at a time, however large the tree is.

        Args:
            base: directory that paths are relative to; a missing one is empty.
            prefix: what a path must begin with.
            after: path that all paths yielded come after.
        """
        start = prefix.rpartition("/")[0]
        parts = start.split("/") if start else []
        with suppress(FileNotFoundError, NotADirectoryError), self.directory([*base, *parts]) as fd:
            yield from _walk(fd, f"{start}/" if start else "", prefix.encode(), after.encode())


def _step(parent: int, part: str, *, create: bool) -> int:
    try:
        return os.open(part, _DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        if not create:
            raise
    with suppress(FileExistsError):
        os.mkdir(part, 0o750, dir_fd=parent)
    os.fsync(parent)
    return os.open(part, _DIRECTORY, dir_fd=parent)


@contextmanager
def suppress_missing(again: bool) -> Iterator[None]:  # noqa: FBT001 - says whether there is another try
    """Swallow `FileNotFoundError` if there is another try."""
    try:
        yield
    except FileNotFoundError:
        if not again:
            raise


def _walk(fd: int, base: str, prefix: bytes, after: bytes) -> Iterator[Found]:
    for name, is_directory in _entries(fd, base, prefix, after):
        if is_directory:
            yield from _descend(fd, name, base, prefix, after)
        else:
            with suppress(FileNotFoundError):  # deleted since it was listed
                yield Found(base + name, os.stat(name, dir_fd=fd, follow_symlinks=False))


def _descend(fd: int, name: str, base: str, prefix: bytes, after: bytes) -> Iterator[Found]:
    try:
        inner = os.open(name, _DIRECTORY, dir_fd=fd)
    except (FileNotFoundError, NotADirectoryError):  # pruned or replaced since it was listed
        return
    try:
        yield from _walk(inner, f"{base}{name}/", prefix, after)
    finally:
        os.close(inner)


def _entries(fd: int, base: str, prefix: bytes, after: bytes) -> list[tuple[str, bool]]:
    """Return (name, is directory) of what may hold wanted paths, a directory sorted as `name/`."""
    found = []
    with os.scandir(fd) as entries:
        for entry in entries:
            is_directory = entry.is_dir(follow_symlinks=False)
            if is_foreign(entry.name) or not (is_directory or entry.is_file(follow_symlinks=False)):
                continue
            path = os.fsencode(base + entry.name) + (b"/" if is_directory else b"")
            if _may_match(path, prefix, after):
                found.append((path, entry.name, is_directory))
    return [(name, is_directory) for _, name, is_directory in sorted(found)]


def _may_match(path: bytes, prefix: bytes, after: bytes) -> bool:
    if path.endswith(b"/"):
        below = path.startswith(prefix) or prefix.startswith(path)
        return below and (path > after or after.startswith(path))
    return path.startswith(prefix) and path > after
