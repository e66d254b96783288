"""Connections, and the server that accepts them."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count

from .export import Export, Exports, Session
from .handshake import Handshake
from .protocol import Gone, Wire
from .transmission import Transmission

HANDSHAKE_SECONDS = 10.0
KICK_SECONDS = 30.0

_log = logging.getLogger(__name__)


class _Connection:
    """One client from accept to close; owns the export it has open."""

    def __init__(self, server: NbdServer, sock: socket.socket, session_id: str) -> None:
        self.server = server
        self.wire = Wire(sock)
        self.thread = threading.Thread(target=self._run, name=f"nbd-{session_id}", daemon=True)
        self.export_name: str | None = None
        self.session: Session | None = None
        self._id = session_id
        self._export: Export | None = None
        self._peer = _name_of(sock.getpeername())

    def select(self, name: str) -> Export | None:
        """Open an export by name.

        The name is noted before access is asked for: a revoke between the two then finds and kicks us.
        """
        if self.export_name != name or self._export is None:
            self._release()
            self.export_name = name
            self._export = self.server.exports.open(name)
        return self._export

    def kick(self) -> None:
        """Shut the socket and wait until this client's last request and the close of its export are over."""
        self.wire.shut()
        self.thread.join(KICK_SECONDS)
        if self.thread.is_alive():
            raise TimeoutError(f"NBD session {self._id} did not end within {KICK_SECONDS:.0f} s")

    def _run(self) -> None:
        try:
            self._talk()
        except (Gone, OSError) as error:
            _log.debug("NBD session %s ended: %r", self._id, error)
        finally:
            self._finish()

    def _talk(self) -> None:
        self.wire.sock.settimeout(HANDSHAKE_SECONDS)
        handshake = Handshake(self.wire, self.select, self.server.tls, tls_required=self.server.tls_required)
        export = handshake.run()
        self.wire.sock.settimeout(None)
        self.session = Session(
            id=self._id,
            export_name=self.export_name or "",
            peer=self._peer,
            read_only=export.read_only,
            since=datetime.now(UTC),
        )
        allocation = handshake.allocation_for == self.export_name
        Transmission(self.wire, export, structured=handshake.structured, allocation=allocation).run()

    def _finish(self) -> None:
        try:
            self._release()
        finally:
            self.wire.sock.close()
            self.server.forget(self)

    def _release(self) -> None:
        export, self._export = self._export, None
        if export is not None:
            export.backend.close()


def _name_of(peer: tuple[object, ...] | str) -> str:
    """Who is at the other end; a Unix socket's client has no name."""
    return peer if isinstance(peer, str) else "{}:{}".format(*peer[:2])


class NbdServer:
    """Listens on a TCP port, or where it is told, and serves :class:`Exports`.

    Args:
        exports: finds exports and decides access.
        host: address to bind.
        port: 0 for any.
        listener: a socket that is bound and listens already, instead of host and port; owned from now on.
        tls: offers STARTTLS with this server-side context.
        tls_required: refuses everything but STARTTLS in the clear.
    """

    def __init__(
        self,
        exports: Exports,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        listener: socket.socket | None = None,
        tls: ssl.SSLContext | None = None,
        tls_required: bool = False,
    ) -> None:
        self.exports = exports
        self.tls = tls
        self.tls_required = tls_required
        self._address = (host, port)
        self._listener = listener
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._connections: dict[_Connection, None] = {}
        self._ids = count(1)

    @property
    def port(self) -> int:
        """The bound TCP port; raises RuntimeError before :meth:`start`."""
        if self._listener is None:
            raise RuntimeError("the NBD server is not started")
        return int(self._listener.getsockname()[1])

    def start(self) -> None:
        """Bind and serve in background threads. Raises OSError when the port is taken."""
        self._listener = self._listener or socket.create_server(self._address, backlog=128)
        self._thread = threading.Thread(
            target=self._accept, args=(self._listener,), name="nbd-accept", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Close the port, then every connection; acknowledged data is committed by the backends' close."""
        if self._listener is None or self._thread is None:
            return
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._thread.join()
        self._listener.close()
        self._listener = self._thread = None
        self.kick(lambda _name: True, handshaking=True)

    def sessions(self) -> list[Session]:
        """Connections that finished their handshake, oldest first."""
        with self._lock:
            return [c.session for c in self._connections if c.session is not None]

    def kick(self, matches: Callable[[str], bool], *, handshaking: bool = False) -> int:
        """Close the connections whose export name matches; nothing of theirs lands after the return.

        Must not be called under a lock that a backend's flush or close needs.

        Args:
            matches: told the export name.
            handshaking: also connections that have not named an export yet.

        Raises:
            TimeoutError: a connection's last request hangs in its backend.
        """
        with self._lock:
            chosen = [
                c
                for c in self._connections
                if (handshaking if c.export_name is None else matches(c.export_name))
            ]
        for connection in chosen:
            connection.wire.shut()
        for connection in chosen:
            connection.kick()
        return len(chosen)

    def forget(self, connection: _Connection) -> None:
        """Called by a connection as its last act."""
        with self._lock:
            self._connections.pop(connection, None)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:  # stop() shut the listener
                return
            self._serve(sock)

    def _serve(self, sock: socket.socket) -> None:
        try:
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = _Connection(self, sock, f"nbd-{next(self._ids)}")
        except OSError:  # gone between accept and getpeername
            sock.close()
            return
        with self._lock:
            self._connections[connection] = None
            connection.thread.start()
