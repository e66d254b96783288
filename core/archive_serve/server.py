"""A snapshot behind an NBD server, read-only."""

from __future__ import annotations

import errno
import logging
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from ..archive import ArchiveSource
from ..dataplane.endpoint import connect_unix
from ..dataplane.os_errors import os_errors
from ..nbd_server import Export, Extent, NbdServer
from ..spi.errors import InUse, InvalidArgument, StorageError
from ..spi.model import ExtentKind

Address = Path | tuple[str, int]
"""A Unix socket, or host and port."""

_BACKLOG = 128
_LONGEST_PATH = 107  # bytes that the kernel has for a Unix socket
_CONNECT_SECONDS = 5.0
# QEMU keeps 16 reads of a disk in flight, nbdcopy 64: what waits for the store must not wait for its turn.
_PARALLEL = 16

_log = logging.getLogger(__name__)


def listen(address: Address) -> socket.socket:
    """Return a listening socket; a dead server's Unix socket is replaced.

    Raises:
        InUse: another server listens there.
        InvalidArgument: the path is too long, or something else than a socket.
        StorageError: as the kernel says.
    """
    if not isinstance(address, Path):
        with os_errors(f"cannot listen on {address[0]}:{address[1]}"):
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            return socket.create_server(address, family=family, backlog=_BACKLOG)
    if len(bytes(address)) > _LONGEST_PATH:
        raise InvalidArgument(f"the socket's path must have at most {_LONGEST_PATH} bytes: {address}")
    with os_errors(f"cannot listen on {address}"):
        _remove_dead(address)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(address))
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
        return listener


def _remove_dead(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise InvalidArgument(f"{path} exists and is no socket: it is not replaced")
    try:
        connect_unix(str(path), timeout=_CONNECT_SECONDS).close()
    except ConnectionRefusedError:
        path.unlink()
    else:
        raise InUse(f"another server listens on {path}")


def uri_of(address: Address) -> str:
    """Return where NBD clients find an export without a name."""
    if isinstance(address, Path):
        return f"nbd+unix:///?socket={quote(str(address.absolute()))}"
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"nbd://{host}:{address[1]}"


class SnapshotServer:
    """Serves a snapshot until it is closed.

    Args:
        source: the snapshot; its owner closes it, after this: its reads end with the server.
        listener: where; owned from now on.
    """

    def __init__(self, source: ArchiveSource, listener: socket.socket) -> None:
        self._source = source
        self._server = NbdServer(self, listener=listener)
        self._server.start()

    def open(self, name: str) -> Export | None:
        """Return the only export, which has no name, for one connection."""
        if name:
            return None
        return Export(backend=_Backend(self._source.clone()), read_only=True, block=1, parallel=_PARALLEL)

    def close(self) -> None:
        """End all connections; reads that wait for the store end with EIO."""
        self._source.cancel()
        self._server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Backend:
    """One connection's view of the snapshot. Whatever is wrong is EIO: the protocol has no better word."""

    def __init__(self, source: ArchiveSource) -> None:
        self._source = source

    def size(self) -> int:
        return self._source.size

    def read(self, offset: int, into: memoryview) -> None:
        try:
            self._source.read_into(offset, into)
        except StorageError as error:
            raise _io_error(offset, error) from error

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        try:
            for extent in self._source.extents(offset, length):
                yield Extent(extent.length, extent.kind is ExtentKind.DATA)
        except StorageError as error:
            raise _io_error(offset, error) from error

    def write(self, offset: int, data: memoryview) -> None:  # noqa: ARG002 - never called: read-only
        raise OSError(errno.EPERM, "an archived snapshot is read-only")

    def zero(self, offset: int, length: int) -> None:  # noqa: ARG002 - idem
        raise OSError(errno.EPERM, "an archived snapshot is read-only")

    def flush(self) -> None:
        """Nothing is ever written."""

    def close(self) -> None:
        self._source.close()


def _io_error(offset: int, error: StorageError) -> OSError:
    _log.warning("reading at %d: %s: %s", offset, error.code, error.message)
    return OSError(errno.EIO, error.message)
