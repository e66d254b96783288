"""Files of a store as its driver sees them, whoever brings its requests to the server.

NfsDriver ── Tree ── Folder ──┬── _local.py    the kernel: a mounted path, or any directory
                              └── _remote.py   libnfs: nfs://host/export, nothing mounted
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, Self

from ...core.spi import Call


class Status(NamedTuple):
    """What a file is; never of what a symbolic link points to."""

    size: int
    inode: int
    mtime_ns: int
    is_file: bool
    is_directory: bool


class Entry(NamedTuple):
    """A name in a folder; `status` is None where it would have cost a request of its own."""

    name: str
    is_file: bool
    is_directory: bool
    status: Status | None


class File(Protocol):
    """An open file. Methods raise `OSError`."""

    def read(self, size: int, offset: int) -> bytes:
        """Return up to `size` bytes; b"" past the end."""

    def write(self, data: memoryview) -> int:
        """Write at the end; returns how many bytes were taken."""

    def sync(self) -> None:
        """Make what was written durable."""

    def status(self) -> Status:
        """Return what it is now."""

    def close(self) -> None:
        """Let go of it; once."""


class Folder(Protocol):
    """A directory that nothing can be put in the place of. Names are single parts; nothing follows a link."""

    def folder(self, name: str) -> Self:
        """Open a directory in it, or raise `FileNotFoundError` or `NotADirectoryError`."""

    def open(self, name: str) -> File:
        """Open a file for reading, or raise `FileNotFoundError` where there is none."""

    def create(self, name: str) -> File:
        """Create a file that was not there, and open it for writing."""

    def status(self, name: str) -> Status:
        """Return what bears the name."""

    def entries(self) -> Iterable[Entry]:
        """Yield what is in it, in any order."""

    def mkdir(self, name: str) -> None:
        """Make a directory."""

    def rmdir(self, name: str) -> None:
        """Remove an empty directory."""

    def unlink(self, name: str) -> None:
        """Remove a file's name."""

    def link(self, name: str, target: Self, final: str) -> None:
        """Give the file a second name, or raise `FileExistsError`."""

    def replace(self, name: str, target: Self, final: str) -> None:
        """Give the file another name, which it takes from what had it."""

    def sync(self) -> None:
        """Make names that were given or taken durable."""

    def close(self) -> None:
        """Let go of it; once."""


class Root(Protocol):
    """Where the store begins."""

    attempts: int
    """How often a step whose answer was lost is tried in all; 1 where the kernel does it."""

    answers: bool
    """False since a server let a request's time pass: who only tidies up need not wait for it again."""

    def folder(self, call: Call) -> AbstractContextManager[Folder]:
        """Open the root for the steps of one call."""

    def close(self) -> None:
        """Let go of it; repeatable."""
