"""A pure-Python NBD client: one connection, several requests in flight.

Why our own: libnbd has no wheel on PyPI, and Debian's binding is built for the system's Python only,
so it cannot be a dependency of a package that is installed into a virtual environment.

    read_into(0, 1.5 MiB)      512 KiB       512 KiB       512 KiB      requests, 4 in flight
                                  |             |             |
    server answers in any     chunk chunk     chunk        hole chunk   each received straight into
    order, in any pieces        v     v         v             v         the caller's buffer

A server is not trusted: lengths, offsets and cookies are checked before a byte is stored, what it
leaves out is an error and not stale memory, and an extent that does not advance is refused.

After a failure of the connection or of the protocol the client is broken for good (`Unavailable`):
what was in flight cannot be told from what comes next. Open a new one.
"""

from __future__ import annotations

import ssl
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from ...transfer_objects.secret import Secret
from ..spi.errors import InvalidArgument, Outcome, StorageError, Unavailable
from ..spi.model import Extent, ExtentKind
from .endpoint import Endpoint
from .nbd_handshake import Export, negotiate
from .nbd_wire import (
    BASE_ALLOCATION,
    CHUNK_DONE,
    CHUNK_ERROR,
    REQUEST_MAGIC,
    SIMPLE_REPLY_MAGIC,
    STRUCTURED_REPLY_MAGIC,
    Chunk,
    Command,
    ExportFlag,
    Wire,
    nonsense,
    server_error,
)
from .zero import ZEROS, fill_zeros

DEFAULT_TIMEOUT = 60.0
"""Seconds that a server may stand still: longer than a busy array's path failover (30 s)."""

# Best of 256 KiB .. 8 MiB and 1 .. 16 in flight, reading 1 GiB through qemu-nbd: 1.4 GiB/s, where
# 2 MiB and 8 in flight gave 0.9 (the data falls out of the processor's cache between the processes).
_REQUEST = 512 * 1024
_IN_FLIGHT = 4
# One WRITE_ZEROES on a device without unmap is real writing: 128 MiB at 10 MiB/s stays below 60 s.
_ZERO_STEP = 128 * 1024 * 1024
# The largest multiple of the largest block size in 32 bits.
_STATUS_STEP = 2**32 - 65536
# nbdkit stops at 2^20 extents (8 MiB), qemu at 2^17; whoever sends more wants our memory.
_MAX_STATUS = 16 * 1024 * 1024
_MAX_ERROR = 64 * 1024

_KINDS = {0: ExtentKind.DATA, 2: ExtentKind.ZERO, 3: ExtentKind.HOLE}
"""base:allocation: bit 0 is "hole", bit 1 "reads as zero". A hole that may read as anything is DATA."""
_DIRTY_KINDS = {0: ExtentKind.HOLE, 1: ExtentKind.DATA}
"""A bitmap: bit 0 is "dirty"; an unknown bit beside it makes nobody skip what has changed."""


@dataclass(slots=True)
class _Request:
    """One request and what has come back for it."""

    command: Command
    offset: int = 0
    length: int = 0
    payload: memoryview | bytes = b""
    buffer: memoryview = field(default_factory=lambda: memoryview(b""))
    received: list[tuple[int, int]] = field(default_factory=list)
    status: bytes = b""
    error: StorageError | None = None

    @property
    def outcome(self) -> Outcome:
        """What is known if no answer comes."""
        return Outcome.UNKNOWN if self.command.changes else Outcome.NOT_APPLIED

    def header(self, cookie: int) -> bytes:
        return struct.pack(">IHHQQI", REQUEST_MAGIC, 0, self.command, cookie, self.offset, self.length)

    def part(self, offset: int, length: int) -> memoryview:
        """Return the place for `length` bytes from `offset` of the export."""
        start = offset - self.offset
        if self.command is not Command.READ or length <= 0 or start < 0 or start + length > self.length:
            raise nonsense("it sends bytes that were not asked for")
        self.received.append((start, length))
        return self.buffer[start : start + length]

    def check_complete(self) -> None:
        """Raise if the answer left a part of the buffer untouched: that would be old memory."""
        if self.command is not Command.READ or self.error:
            return
        position = 0
        for start, length in sorted(self.received):
            if start != position:
                raise nonsense("its answer to READ has gaps or overlaps")
            position += length
        if position != self.length:
            raise nonsense("its answer to READ is too short")


class NbdClient:
    """One connection to one export. Safe for several threads: they take turns.

    Args:
        endpoint: where to connect; told when the connection is closed.
        export: name of the export.
        context: the meta context that `block_status` tells: base:allocation, or a bitmap of QEMU's.
        timeout: seconds that the server may stand still.
        tls: encrypt with this context, and refuse to go on without.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        export: Secret,
        *,
        context: bytes = BASE_ALLOCATION,
        timeout: float = DEFAULT_TIMEOUT,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._kinds = _KINDS if context == BASE_ALLOCATION else _DIRTY_KINDS
        self._lock = threading.Lock()
        self._users = 1
        self._cookie = 0
        self._usable = False
        self._wire = Wire(endpoint.connect(), timeout)
        try:
            self.export: Export = negotiate(self._wire, export, context, tls=tls, hostname=endpoint.hostname)
            self._usable = True
        finally:
            if not self._usable:
                self._hang_up()

    def share(self) -> NbdClient:
        """Count one more user of this connection; each must `close` it."""
        with self._lock:
            self._users += 1
        return self

    def close(self) -> None:
        """Say goodbye and close when the last user closes."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
            if self._usable:
                with suppress(StorageError):  # the server may be gone; there is nothing to lose any more
                    goodbye = _Request(Command.DISCONNECT)
                    self._wire.send(goodbye.header(0), outcome=Outcome.NOT_APPLIED)
            self._usable = False
            self._hang_up()

    def _hang_up(self) -> None:
        self._wire.close()
        self._endpoint.release()

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill all of `buffer`; offset and length must be multiples of `export.minimum`."""
        step = self._step
        self._run(
            _Request(Command.READ, offset + start, len(part), buffer=part)
            for start in range(0, len(buffer), step)
            if (part := buffer[start : start + step])
        )

    def write(self, offset: int, data: memoryview) -> None:
        """Write all of `data`; offset and length must be multiples of `export.minimum`."""
        step = self._step
        self._check_aligned(offset, len(data))
        self._run(
            _Request(Command.WRITE, offset + start, len(part), payload=part)
            for start in range(0, len(data), step)
            if (part := data[start : start + step])
        )

    def write_zeroes(self, offset: int, length: int) -> None:
        """Zero a range; the server may deallocate it (NO_HOLE is off)."""
        self._check_aligned(offset, length)
        if self.export.flags & ExportFlag.SEND_WRITE_ZEROES:
            self._run(_steps(Command.WRITE_ZEROES, offset, length))
            return
        for start in range(offset, offset + length, len(ZEROS)):
            self.write(start, ZEROS[: min(len(ZEROS), offset + length - start)])

    def trim(self, offset: int, length: int) -> None:
        """Tell the server that the range's content does not matter any more; it may ignore it."""
        self._check_aligned(offset, length)
        if self.export.flags & ExportFlag.SEND_TRIM:
            self._run(_steps(Command.TRIM, offset, length))

    def flush(self) -> None:
        """Make completed writes durable. A server without FLUSH has no volatile cache."""
        if self.export.flags & ExportFlag.SEND_FLUSH:
            self._run(iter([_Request(Command.FLUSH)]))

    def block_status(self, offset: int, length: int) -> list[Extent]:
        """Return extents from `offset` on: at least one, at most up to offset + length.

        Args:
            offset: where to begin, a multiple of `export.minimum`.
            length: more than 0; multiple of the same, or up to the end of the export.
        """
        context = self.export.context
        length = min(length, _STATUS_STEP)
        if context is None:
            return [Extent(offset, length, ExtentKind.DATA)]
        request = _Request(Command.BLOCK_STATUS, offset, length)
        self._run(iter([request]))
        return list(_parse_status(request, context, self._kinds))

    @property
    def _step(self) -> int:
        return min(_REQUEST, self.export.maximum) // self.export.minimum * self.export.minimum

    def _check_aligned(self, offset: int, length: int) -> None:
        block = self.export.minimum
        if offset % block or (length % block and offset + length != self.export.size):
            raise InvalidArgument(f"the export is written in multiples of {block} bytes")

    def _run(self, requests: Iterator[_Request]) -> None:
        """Send all requests, `_IN_FLIGHT` at a time, and raise the first error when all are answered."""
        with self._lock:
            if not self._usable:
                raise Unavailable("the NBD connection is closed or broken", outcome=Outcome.NOT_APPLIED)
            # Whatever leaves this block early (a timeout, Ctrl-C) leaves answers on the wire.
            self._usable = False
            error = self._pipeline(requests)
            self._usable = True
        if error:
            raise error

    def _pipeline(self, requests: Iterator[_Request]) -> StorageError | None:
        pending: dict[int, _Request] = {}
        error: StorageError | None = None
        while True:
            while error is None and len(pending) < _IN_FLIGHT:
                request = next(requests, None)
                if request is None:
                    break
                self._cookie += 1
                pending[self._cookie] = request
                self._wire.send(request.header(self._cookie), request.payload, outcome=request.outcome)
            if not pending:
                return error
            done = self._receive(pending)
            if done and done.error:
                error = error or done.error

    def _receive(self, pending: dict[int, _Request]) -> _Request | None:
        """Take one reply or chunk off the wire; return the request if it is answered now."""
        outcome = next(iter(pending.values())).outcome
        head = self._wire.receive(16, outcome=outcome)
        magic, word, cookie = struct.unpack(">IIQ", head)
        request = pending.get(cookie)
        if request is None:
            raise nonsense("it answers what was not asked", outcome=outcome)
        if magic == SIMPLE_REPLY_MAGIC:
            self._simple_reply(request, word)
        elif magic == STRUCTURED_REPLY_MAGIC and self.export.structured:
            self._chunk(request, word & 0xFFFF)
            if not (word >> 16) & CHUNK_DONE:
                return None
        else:
            raise nonsense("its reply is not one", outcome=outcome)
        del pending[cookie]
        request.check_complete()
        return request

    def _simple_reply(self, request: _Request, number: int) -> None:
        if number:
            request.error = server_error(request.command, number)
        elif request.command is Command.READ:
            self._wire.receive_into(request.part(request.offset, request.length), outcome=request.outcome)

    def _chunk(self, request: _Request, kind: int) -> None:
        length = int.from_bytes(self._wire.receive(4, outcome=request.outcome), "big")
        if kind & CHUNK_ERROR:
            self._error_chunk(request, length)
        elif kind == Chunk.OFFSET_DATA and length > 8:
            offset = int.from_bytes(self._wire.receive(8, outcome=request.outcome), "big")
            self._wire.receive_into(request.part(offset, length - 8), outcome=request.outcome)
        elif kind == Chunk.OFFSET_HOLE and length == 12:
            fill_zeros(request.part(*struct.unpack(">QI", self._wire.receive(12, outcome=request.outcome))))
        elif kind == Chunk.BLOCK_STATUS and 12 <= length <= _MAX_STATUS and not request.status:
            request.status = self._wire.receive(length, outcome=request.outcome)
        elif kind != Chunk.NONE or length:
            raise nonsense(f"a chunk of type {kind} and {length} bytes", outcome=request.outcome)

    def _error_chunk(self, request: _Request, length: int) -> None:
        if not 6 <= length <= _MAX_ERROR:
            raise nonsense("an error chunk of impossible length", outcome=request.outcome)
        data = self._wire.receive(length, outcome=request.outcome)
        request.error = request.error or server_error(request.command, int.from_bytes(data[:4], "big"))


def _steps(command: Command, offset: int, length: int) -> Iterator[_Request]:
    for start in range(offset, offset + length, _ZERO_STEP):
        yield _Request(command, start, min(_ZERO_STEP, offset + length - start))


def _parse_status(request: _Request, context: int, kinds: Mapping[int, ExtentKind]) -> Iterator[Extent]:
    """Yield the descriptors of a block status reply, cut to what was asked for."""
    data = request.status
    if len(data) % 8 != 4 or int.from_bytes(data[:4], "big") != context:
        raise nonsense("its block status is not one")
    position, end = request.offset, request.offset + request.length
    for length, flags in struct.iter_unpack(">II", data[4:]):
        if length == 0:
            raise nonsense("an extent of no length")
        if position >= end:
            return
        # The last extent may honestly reach beyond what was asked for.
        yield Extent(position, min(length, end - position), kinds.get(flags & 3, ExtentKind.DATA))
        position += length
