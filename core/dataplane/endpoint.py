"""Where NBD connections come from."""

from __future__ import annotations

import errno
import socket
from pathlib import Path
from typing import Protocol

from ..spi.errors import Outcome, Unavailable


class Endpoint(Protocol):
    """A place to connect to, as often as wanted."""

    @property
    def hostname(self) -> str | None:
        """The name that a TLS certificate must carry, or None on a unix socket."""

    def connect(self) -> socket.socket:
        """Return a new connection; each must be followed by one `release` when it was closed.

        Raises:
            Unavailable: nobody listens there, outcome not applied.
        """

    def release(self) -> None:
        """Take note that one connection was closed."""


class SocketEndpoint:
    """A server that somebody else runs.

    Args:
        address: (host, port) or the path of a unix socket.
        timeout: seconds to wait for the connection.
    """

    def __init__(self, address: tuple[str, int] | Path, *, timeout: float) -> None:
        self._address = address
        self._timeout = timeout

    @property
    def hostname(self) -> str | None:
        """The host, or None for a unix socket."""
        return None if isinstance(self._address, Path) else self._address[0]

    def connect(self) -> socket.socket:
        """Connect; see `Endpoint`."""
        try:
            if isinstance(self._address, Path):
                return connect_unix(str(self._address), timeout=self._timeout)
            return socket.create_connection(self._address, timeout=self._timeout)
        except OSError as error:
            reason = errno.errorcode.get(error.errno or 0, type(error).__name__)
            raise Unavailable(
                f"cannot connect to the NBD server at {self._address}: {reason}", outcome=Outcome.NOT_APPLIED
            ) from error

    def release(self) -> None:
        """Nothing to do: the server is not ours."""


def connect_unix(path: str, *, timeout: float) -> socket.socket:
    """Connect to a unix socket.

    Raises:
        OSError: as the kernel says; the path is limited to 107 bytes.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock
