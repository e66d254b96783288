"""A directory tree that is reached from one root, step by step, so that no symbolic link leads out of it."""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import NamedTuple, TypeVar

from ...core.spi import Call
from ._folder import Entry, File, Folder, Root, Status
from ._keys import is_foreign

T = TypeVar("T")

# How often a directory may be pruned by another client between our mkdir and our use of it.
_RACES = 20


class Found(NamedTuple):
    """A file of the tree: path relative to where the walk began, '/'-separated."""

    path: str
    status: Status


class Tree:
    """Files under `root`, for the steps of one call. Methods raise `OSError`; the driver translates."""

    def __init__(self, root: Root, call: Call) -> None:
        self._root = root
        self._call = call

    @contextmanager
    def directory(self, parts: Sequence[str], *, create: bool = False) -> Iterator[Folder]:
        """Open a directory by its parts, making it durably if `create`; it is closed afterwards."""
        with self._root.folder(self._call) as root, ExitStack() as last:
            folder = root
            for part in parts:
                folder = _step(folder, part, create=create)
                last.close()
                last.callback(folder.close)
            yield folder

    def inside(self, parts: Sequence[str], act: Callable[[Folder], T]) -> T:
        """Run `act` on a directory that is made if needed, again if a prune took it away meanwhile."""
        for attempt in range(_RACES):
            with _suppress_missing(attempt < _RACES - 1), self.directory(parts, create=True) as folder:
                return act(folder)
        raise AssertionError("the last attempt returns or raises")

    @contextmanager
    def created(self, parts: Sequence[str], name: str) -> Iterator[File]:
        """Create a file in a directory that is made if needed; it is closed afterwards."""
        with ExitStack() as stack:
            for attempt in range(_RACES):
                with _suppress_missing(attempt < _RACES - 1), ExitStack() as opened:
                    folder = opened.enter_context(self.directory(parts, create=True))
                    file = folder.create(name)
                    opened.callback(file.close)
                    stack.push(opened.pop_all())
                    break
            yield file

    def prune(self, parts: Sequence[str], keep: int = 0) -> None:
        """Remove a directory and its parents, all but the first `keep`, as long as they are empty.

        rmdir refuses a directory that another put has just filled; one that it has just opened goes
        away under it, which `inside` repairs.
        """
        for depth in range(len(parts), keep, -1):
            try:
                with self.directory(parts[: depth - 1]) as folder:
                    folder.rmdir(parts[depth - 1])
            except OSError:  # not empty, gone already, or not ours to remove: the tree is as good with it
                return

    def walk(self, base: Sequence[str], *, prefix: str = "", after: str = "") -> Generator[Found]:
        """Yield the files under `base`, sorted by the UTF-8 bytes of their path.

        One directory's names are in memory at a time, however large the tree is.

        Args:
            base: directory that paths are relative to; a missing one is empty.
            prefix: what a path must begin with.
            after: path that all paths yielded come after.
        """
        start = prefix.rpartition("/")[0]
        parts = start.split("/") if start else []
        with suppress(FileNotFoundError, NotADirectoryError), self.directory([*base, *parts]) as folder:
            yield from _walk(folder, f"{start}/" if start else "", prefix.encode(), after.encode())


def _step(parent: Folder, part: str, *, create: bool) -> Folder:
    try:
        return parent.folder(part)
    except FileNotFoundError:
        if not create:
            raise
    with suppress(FileExistsError):
        parent.mkdir(part)
    parent.sync()
    return parent.folder(part)


@contextmanager
def _suppress_missing(again: bool) -> Iterator[None]:  # noqa: FBT001 - says whether there is another try
    """Swallow what a pruned directory gives if there is another try: without a mount it is ESTALE."""
    try:
        yield
    except OSError as error:
        if not again or error.errno not in (errno.ENOENT, errno.ESTALE):
            raise


def _walk(folder: Folder, base: str, prefix: bytes, after: bytes) -> Iterator[Found]:
    for entry in _entries(folder, base, prefix, after):
        if entry.is_directory:
            yield from _descend(folder, entry.name, base, prefix, after)
        else:
            with suppress(FileNotFoundError):  # deleted since it was listed
                yield Found(base + entry.name, entry.status or folder.status(entry.name))


def _descend(folder: Folder, name: str, base: str, prefix: bytes, after: bytes) -> Iterator[Found]:
    try:
        inner = folder.folder(name)
    except (FileNotFoundError, NotADirectoryError):  # pruned or replaced since it was listed
        return
    try:
        yield from _walk(inner, f"{base}{name}/", prefix, after)
    finally:
        inner.close()


def _entries(folder: Folder, base: str, prefix: bytes, after: bytes) -> list[Entry]:
    """Return what may hold wanted paths, a directory sorted as `name/`."""
    found = []
    for entry in folder.entries():
        if is_foreign(entry.name) or not (entry.is_directory or entry.is_file):
            continue
        path = (base + entry.name).encode(errors="surrogateescape") + (b"/" if entry.is_directory else b"")
        if _may_match(path, prefix, after):
            found.append((path, entry))
    return [entry for _, entry in sorted(found)]


def _may_match(path: bytes, prefix: bytes, after: bytes) -> bool:
    if path.endswith(b"/"):
        below = path.startswith(prefix) or prefix.startswith(path)
        return below and (path > after or after.startswith(path))
    return path.startswith(prefix) and path > after
