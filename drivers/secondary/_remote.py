"""Files on an NFS server through libnfs: nothing is mounted, and a server that is away costs a timeout.

    folder ── path below the export ──┐
    folder ── path below the export ──┼── one connection, borrowed for the steps of one call
    file   ── handle ─────────────────┘                   │ broken: closed, with all that lie idle
                                                          └ else: idle, for the next call

A path is resolved by the server below the export, so no symbolic link leads out of it. That none is among a
key's directories is looked at step by step, as on a mounted path.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ...core.spi import Call, DeadlineExceeded, Unavailable
from ._export import Export
from ._folder import Entry, Status
from ._libnfs import Connection

# A server of NFSv4 forgets a client that was silent for its lease, 10 s at the least that admins choose.
# A new connection costs three round trips.
_IDLE = 5.0


class RemoteFile:
    """A handle of a file."""

    def __init__(self, connection: Connection, handle: int) -> None:
        self._connection = connection
        self._handle = handle
        self._written = 0

    def read(self, size: int, offset: int) -> bytes:
        """Read from an offset."""
        return self._connection.read(self._handle, size, offset)

    def write(self, data: memoryview) -> int:
        """Append."""
        taken = self._connection.write(self._handle, data, self._written)
        self._written += taken
        return taken

    def sync(self) -> None:
        """Make it durable."""
        self._connection.sync(self._handle)

    def status(self) -> Status:
        """Return what it is."""
        return self._connection.status_of(self._handle)

    def close(self) -> None:
        """Let go: what was written is durable since `sync`, and a broken connection has no handles."""
        with suppress(OSError):
            self._connection.close_file(self._handle)


class RemoteFolder:
    """A path below the export, "" for the export itself."""

    def __init__(self, connection: Connection, path: str) -> None:
        self._connection = connection
        self._path = path

    def folder(self, name: str) -> RemoteFolder:
        """Open a directory in it."""
        if not self.status(name).is_directory:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return RemoteFolder(self._connection, self._at(name))

    def open(self, name: str) -> RemoteFile:
        """Open for reading."""
        return RemoteFile(self._connection, self._connection.open(self._at(name)))

    def create(self, name: str) -> RemoteFile:
        """Create and open."""
        return RemoteFile(self._connection, self._connection.create(self._at(name)))

    def status(self, name: str) -> Status:
        """Return what bears the name."""
        return self._connection.status(self._at(name))

    def entries(self) -> Iterator[Entry]:
        """Read the directory."""
        return self._connection.entries(self._path or "/")

    def mkdir(self, name: str) -> None:
        """Make a directory."""
        self._connection.mkdir(self._at(name))

    def rmdir(self, name: str) -> None:
        """Remove an empty directory."""
        self._connection.rmdir(self._at(name))

    def unlink(self, name: str) -> None:
        """Remove a name."""
        self._connection.unlink(self._at(name))

    def link(self, name: str, target: RemoteFolder, final: str) -> None:
        """Add a name."""
        self._connection.link(self._at(name), target._at(final))

    def replace(self, name: str, target: RemoteFolder, final: str) -> None:
        """Rename over what is there."""
        self._connection.rename(self._at(name), target._at(final))

    def sync(self) -> None:
        """Nothing to do: a server answers such requests when they are durable (RFC 1813, 4.8)."""

    def close(self) -> None:
        """Nothing to do: a path holds nothing."""

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}"


class RemoteRoot:
    """The export, and its idle connections.

    Args:
        export: where it is.
        timeout: seconds that one request may take at most.
        clock: for the age of idle connections.
    """

    attempts = 2

    def __init__(self, export: Export, timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._export, self._timeout, self._clock = export, timeout, clock
        self._lock = threading.Lock()
        self._idle: list[tuple[float, Connection]] = []
        self._closed = False
        self.answers = True

    @contextmanager
    def folder(self, call: Call) -> Iterator[RemoteFolder]:
        """Borrow a connection."""
        connection = self._borrow(call)
        try:
            yield RemoteFolder(connection, "")
        finally:
            self._give_back(connection)

    def close(self) -> None:
        """Hang up; who still works on a connection hangs it up afterwards."""
        with self._lock:
            self._closed = True
        self._drop_idle()

    def _borrow(self, call: Call) -> Connection:
        def seconds() -> float:
            try:
                return call.remaining(self._timeout)
            except DeadlineExceeded:  # what was begun is brought to its end: its outcome would be unknown
                return 1.0

        with self._lock:
            if self._closed:
                raise Unavailable("the store is closed")
            since, connection = self._idle.pop() if self._idle else (0.0, None)
        if connection is not None and self._clock() - since < _IDLE:
            connection.seconds = seconds
            return connection
        if connection is not None:
            connection.close()
        return self._connect(seconds)

    def _connect(self, seconds: Callable[[], float]) -> Connection:
        try:
            connection = Connection(self._export, seconds)
        except OSError as error:
            self.answers = error.errno != errno.ETIMEDOUT
            raise
        self.answers = True
        return connection

    def _give_back(self, connection: Connection) -> None:
        if not connection.broken:
            with self._lock:
                if not self._closed:
                    self._idle.append((self._clock(), connection))
                    return
        connection.close()
        if connection.broken:
            self.answers = not connection.silent
            self._drop_idle()  # to the same server: it is away for them, too

    def _drop_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for _, connection in idle:
            with suppress(OSError):
                connection.close()
