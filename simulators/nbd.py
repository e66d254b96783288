"""A small NBD server: fixed newstyle handshake, structured replies, block status, TLS, kicks.

It serves whatever implements :class:`Backend`, one thread per connection, and knows nothing of arrays::

    client ── options ──▶ _Handshake ── Exports.open(name) ──▶ Export(backend, read_only, ...)
           ── requests ─▶ _Transmission ── read/write/zero/flush/extents ──▶ Backend

Protocol: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
"""

from __future__ import annotations

import errno
import logging
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count, islice
from typing import NamedTuple, Protocol

from .nbd_protocol import (
    ALLOCATION,
    ALLOCATION_ID,
    CHUNK,
    CHUNK_DONE,
    CHUNK_MAGIC,
    HOLE_AND_ZERO,
    MAGIC,
    MAX_EXTENTS,
    MAX_OPTION,
    MAX_PAYLOAD,
    MIN_BLOCK,
    MUTATING,
    OPTION,
    OPTION_MAGIC,
    OPTION_REPLY,
    OPTION_REPLY_MAGIC,
    PASSED_ERRORS,
    PREFERRED_BLOCK,
    REQUEST,
    REQUEST_MAGIC,
    SIMPLE,
    SIMPLE_MAGIC,
    WRITABLE,
    Chunk,
    Cmd,
    CmdFlag,
    Gone,
    Opt,
    Rep,
    Request,
    TxFlag,
    Wire,
    split_queries,
    split_string,
    text,
)

__all__ = ["MAX_PAYLOAD", "MIN_BLOCK", "Backend", "Export", "Exports", "Extent", "NbdServer", "Session"]

HANDSHAKE_SECONDS = 10.0
KICK_SECONDS = 30.0

_log = logging.getLogger(__name__)


class Extent(NamedTuple):
    """A run of bytes that is either data or a hole which reads as zeroes."""

    length: int
    data: bool


class Backend(Protocol):
    """What an export reads and writes. OSErrors reach the client (ENOSPC, EIO...).

    Several connections may call at the same time. Offsets and lengths are bytes within ``size()``.
    """

    def size(self) -> int:
        """Bytes; asked for at each request, so that a resize counts at once."""

    def read(self, offset: int, into: memoryview) -> None:
        """Fill the buffer from ``offset``."""

    def write(self, offset: int, data: memoryview) -> None:
        """Store the bytes; they need to be durable only after :meth:`flush`."""

    def zero(self, offset: int, length: int) -> None:
        """Make the range read as zeroes, giving its space back."""

    def flush(self) -> None:
        """Return when everything acknowledged before is durable."""

    def extents(self, offset: int, length: int) -> Iterable[Extent]:
        """Runs that cover the range exactly, in order."""

    def close(self) -> None:
        """The connection ended (once per :meth:`Exports.open`)."""


def _no_wait(_length: int) -> float:
    return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What :meth:`Exports.open` hands out for one connection.

    Attributes:
        throttle: told the bytes of each read or write, answers the seconds to wait first (QoS).
    """

    backend: Backend
    read_only: bool = False
    throttle: Callable[[int], float] = _no_wait


class Exports(Protocol):
    """Finds exports by name; this is where access is decided."""

    def open(self, name: str) -> Export | None:
        """The export, or None for "unknown" (also when access is denied)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A connection in its transmission phase."""

    id: str
    export_name: str = field(repr=False)  # may carry a proof of a secret
    peer: str
    read_only: bool
    since: datetime


class _Handshake:
    """Option haggling up to NBD_OPT_GO or NBD_OPT_EXPORT_NAME."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._wire = connection.wire
        self._server = connection.server
        self._no_zeroes = False
        self._tls = False
        self.structured = False
        self.allocation_for: str | None = None

    def run(self) -> Export:
        """The export that the client settled on; raises Gone when it leaves."""
        self._wire.send(struct.pack(">QQH", MAGIC, OPTION_MAGIC, 3))
        flags = int.from_bytes(self._wire.recv(4), "big")
        if flags & ~3 or not flags & 1:
            raise Gone
        self._no_zeroes = bool(flags & 2)
        while True:
            magic, option, length = OPTION.unpack(self._wire.recv(OPTION.size))
            if magic != OPTION_MAGIC or length > MAX_OPTION:
                raise Gone
            export = self._option(option, self._wire.recv(length))
            if export is not None:
                return export

    def _option(self, option: int, data: bytes) -> Export | None:
        if self._server.tls_required and not self._tls and option not in (Opt.STARTTLS, Opt.ABORT):
            if option == Opt.EXPORT_NAME:
                raise Gone
            self._reply(option, Rep.ERR_TLS_REQD)
            return None
        if option == Opt.EXPORT_NAME:
            return self._export_name(data)
        if option in (Opt.INFO, Opt.GO):
            return self._info(option, data)
        if option in (Opt.LIST_META_CONTEXT, Opt.SET_META_CONTEXT):
            self._meta_context(option, data)
        else:
            self._plain_option(option, data)
        return None

    def _plain_option(self, option: int, data: bytes) -> None:
        if option == Opt.ABORT:
            self._reply(option, Rep.ACK)
            raise Gone
        known = option in (Opt.LIST, Opt.STRUCTURED_REPLY) or (option == Opt.STARTTLS and self._server.tls)
        if not known:
            self._reply(option, Rep.ERR_UNSUP)
        elif data or (option == Opt.STARTTLS and self._tls):
            self._reply(option, Rep.ERR_INVALID)
        else:
            self._reply(option, Rep.ACK)  # LIST: an empty list, exports are not for everybody's eyes
            self.structured |= option == Opt.STRUCTURED_REPLY
            if option == Opt.STARTTLS and self._server.tls:
                self._start_tls(self._server.tls)

    def _start_tls(self, context: ssl.SSLContext) -> None:
        self._wire.start_tls(context)
        self._tls = True
        self.structured = False  # what was said in the clear may have been forged
        self.allocation_for = None

    def _export_name(self, data: bytes) -> Export:
        export = self._connection.select(text(data))
        if export is None:
            raise Gone  # the old option has no way to say why
        head = struct.pack(">QH", export.backend.size(), _export_flags(export))
        self._wire.send(head if self._no_zeroes else head + bytes(124))
        return export

    def _info(self, option: int, data: bytes) -> Export | None:
        name, rest = split_string(data)
        wanted = len(rest) // 2 - 1
        if name is None or wanted < 0 or len(rest) % 2 or int.from_bytes(rest[:2], "big") != wanted:
            self._reply(option, Rep.ERR_INVALID)
            return None
        export = self._connection.select(name)
        if export is None:
            self._reply(option, Rep.ERR_UNKNOWN)
            return None
        self._reply(option, Rep.INFO, struct.pack(">HQH", 0, export.backend.size(), _export_flags(export)))
        self._reply(option, Rep.INFO, struct.pack(">HIII", 3, MIN_BLOCK, PREFERRED_BLOCK, MAX_PAYLOAD))
        self._reply(option, Rep.ACK)
        return export if option == Opt.GO else None

    def _meta_context(self, option: int, data: bytes) -> None:
        name, rest = split_string(data)
        queries = split_queries(rest)
        if name is None or queries is None or not (self.structured or option == Opt.LIST_META_CONTEXT):
            self._reply(option, Rep.ERR_INVALID)
            return
        if self._connection.select(name) is None:
            self._reply(option, Rep.ERR_UNKNOWN)
            return
        setting = option == Opt.SET_META_CONTEXT
        matched = ALLOCATION in queries or (not setting and (not queries or b"base:" in queries))
        if setting:
            self.allocation_for = name if matched else None
        if matched:
            context = struct.pack(">I", ALLOCATION_ID if setting else 0) + ALLOCATION
            self._reply(option, Rep.META_CONTEXT, context)
        self._reply(option, Rep.ACK)

    def _reply(self, option: int, kind: Rep, data: bytes = b"") -> None:
        self._wire.send(OPTION_REPLY.pack(OPTION_REPLY_MAGIC, option, kind, len(data)), data)


def _export_flags(export: Export) -> int:
    return WRITABLE | (TxFlag.READ_ONLY if export.read_only else TxFlag(0))


class _Transmission:
    """Requests and replies, strictly one after the other: concurrency comes from several connections."""

    def __init__(self, wire: Wire, export: Export, *, structured: bool, allocation: bool) -> None:
        self._wire = wire
        self._export = export
        self._backend = export.backend
        self._structured = structured
        self._allocation = allocation
        self._buffer = bytearray(PREFERRED_BLOCK)  # grows to the largest request, then stays

    def run(self) -> None:
        """Serve until the client says goodbye (returns) or vanishes (Gone, OSError)."""
        while True:
            magic, *fields = REQUEST.unpack(self._wire.recv(REQUEST.size))
            request = Request(*fields)
            if magic != REQUEST_MAGIC or request.command == Cmd.DISC:
                return
            payload = self._payload(request)
            try:
                self._serve(request, payload)
            except OSError as error:
                if self._wire.closing.is_set() or isinstance(error, ConnectionError):
                    raise
                number = error.errno if error.errno in PASSED_ERRORS else errno.EIO
                self._error(request, number or errno.EIO)

    def _payload(self, request: Request) -> memoryview:
        if request.command != Cmd.WRITE:
            return memoryview(b"")
        if request.length > MAX_PAYLOAD:
            raise Gone  # the stream could only be resynchronised by swallowing it
        view = self._room(request.length)
        self._wire.recv_into(view)
        return view

    def _room(self, length: int) -> memoryview:
        if len(self._buffer) < length:
            self._buffer = bytearray(length)
        return memoryview(self._buffer)[:length]

    def _serve(self, request: Request, payload: memoryview) -> None:
        problem = self._problem(request)
        if problem:
            self._error(request, problem)
            return
        if request.command in (Cmd.READ, Cmd.WRITE):
            self._wire.closing.wait(self._export.throttle(request.length))
        if self._wire.closing.is_set():
            raise Gone  # kicked: bytes that were already in our receive buffer must not land
        if request.command == Cmd.READ:
            self._read(request)
        elif request.command == Cmd.BLOCK_STATUS:
            self._block_status(request)
        else:
            self._change(request, payload)
            self._done(request)

    def _problem(self, request: Request) -> int:
        """The errno for a request that must not reach the backend, or 0."""
        if request.command == Cmd.FLUSH:
            return 0
        if request.command not in Cmd.__members__.values():
            return errno.EINVAL
        if request.command in MUTATING and self._export.read_only:
            return errno.EPERM
        if request.offset + request.length > self._backend.size():
            return errno.ENOSPC if request.command in MUTATING else errno.EINVAL
        if request.offset % MIN_BLOCK or request.length % MIN_BLOCK or not request.length:
            return errno.EINVAL
        if request.command == Cmd.READ and request.length > MAX_PAYLOAD:
            return errno.EINVAL
        if request.command == Cmd.BLOCK_STATUS and not self._allocation:
            return errno.EINVAL
        return 0

    def _change(self, request: Request, payload: memoryview) -> None:
        if request.command == Cmd.WRITE:
            self._backend.write(request.offset, payload)
        elif request.command in (Cmd.TRIM, Cmd.WRITE_ZEROES):
            self._backend.zero(request.offset, request.length)
        if request.command == Cmd.FLUSH or request.flags & CmdFlag.FUA:
            self._backend.flush()

    def _read(self, request: Request) -> None:
        view = self._room(request.length)
        if not self._structured:
            self._backend.read(request.offset, view)
            self._wire.send(SIMPLE.pack(SIMPLE_MAGIC, 0, request.cookie), view)
            return
        for offset, extent, last in self._pieces(request):
            done = CHUNK_DONE if last else 0
            place = struct.pack(">Q", offset)
            if extent.data:
                part = view[: extent.length]
                self._backend.read(offset, part)
                head = CHUNK.pack(CHUNK_MAGIC, done, Chunk.DATA, request.cookie, 8 + extent.length)
                self._wire.send(head + place, part)
            else:
                body = place + struct.pack(">I", extent.length)
                self._chunk(request, done, Chunk.HOLE, body)

    def _pieces(self, request: Request) -> Iterator[tuple[int, Extent, bool]]:
        """Offset, extent, is-last for a structured read; one piece when the client forbids fragments."""
        if request.flags & CmdFlag.DF:
            extents = [Extent(request.length, data=True)]
        else:
            extents = list(self._backend.extents(request.offset, request.length))
        offset = request.offset
        for number, extent in enumerate(extents, 1):
            yield offset, extent, number == len(extents)
            offset += extent.length

    def _block_status(self, request: Request) -> None:
        limit = 1 if request.flags & CmdFlag.REQ_ONE else MAX_EXTENTS
        body = bytearray(struct.pack(">I", ALLOCATION_ID))
        for extent in islice(self._backend.extents(request.offset, request.length), limit):
            body += struct.pack(">II", extent.length, 0 if extent.data else HOLE_AND_ZERO)
        self._chunk(request, CHUNK_DONE, Chunk.BLOCK_STATUS, bytes(body))

    def _done(self, request: Request) -> None:
        if self._structured:
            self._chunk(request, CHUNK_DONE, Chunk.NONE, b"")
        else:
            self._wire.send(SIMPLE.pack(SIMPLE_MAGIC, 0, request.cookie))

    def _error(self, request: Request, number: int) -> None:
        if self._structured:
            self._chunk(request, CHUNK_DONE, Chunk.ERROR, struct.pack(">IH", number, 0))
        else:
            self._wire.send(SIMPLE.pack(SIMPLE_MAGIC, number, request.cookie))

    def _chunk(self, request: Request, flags: int, kind: Chunk, body: bytes) -> None:
        self._wire.send(CHUNK.pack(CHUNK_MAGIC, flags, kind, request.cookie, len(body)) + body)


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
        self._peer = "{}:{}".format(*sock.getpeername()[:2])

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
        handshake = _Handshake(self)
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
        _Transmission(self.wire, export, structured=handshake.structured, allocation=allocation).run()

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


class NbdServer:
    """Listens on a TCP port and serves :class:`Exports`.

    Args:
        exports: finds exports and decides access.
        host: address to bind.
        port: 0 for any.
        tls: offers STARTTLS with this server-side context.
        tls_required: refuses everything but STARTTLS in the clear.
    """

    def __init__(
        self,
        exports: Exports,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        tls_required: bool = False,
    ) -> None:
        self.exports = exports
        self.tls = tls
        self.tls_required = tls_required
        self._address = (host, port)
        self._listener: socket.socket | None = None
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
        self._listener = socket.create_server(self._address, backlog=128)
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
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = _Connection(self, sock, f"nbd-{next(self._ids)}")
        except OSError:  # gone between accept and getpeername
            sock.close()
            return
        with self._lock:
            self._connections[connection] = None
            connection.thread.start()
