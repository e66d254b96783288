"""Requests and replies, once a connection has its export."""

from __future__ import annotations

import errno
import logging
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from .export import Export, Extent
from .protocol import (
    ALLOCATION_ID,
    CHUNK,
    CHUNK_DONE,
    CHUNK_MAGIC,
    HOLE_AND_ZERO,
    MAX_CHUNK,
    MAX_EXTENTS,
    MAX_PAYLOAD,
    MUTATING,
    PASSED_ERRORS,
    PREFERRED_BLOCK,
    REQUEST,
    REQUEST_MAGIC,
    SIMPLE,
    SIMPLE_MAGIC,
    Chunk,
    Cmd,
    CmdFlag,
    Gone,
    Request,
    Wire,
)

_log = logging.getLogger(__name__)


class Transmission:
    """Requests and replies of one connection: one after the other, or as many reads at once as it may.

    Replies of reads that run side by side may come in any order, and their chunks between each other's.
    """

    def __init__(self, wire: Wire, export: Export, *, structured: bool, allocation: bool) -> None:
        self._wire = wire
        self._export = export
        self._backend = export.backend
        self._structured = structured
        self._allocation = allocation
        self._buffers = threading.local()
        # As many as may run and the same again: the next is there when one ends, and none piles up.
        self._slots = threading.Semaphore(2 * export.parallel)

    def run(self) -> None:
        """Serve until the client says goodbye (returns) or vanishes (Gone, OSError)."""
        if self._export.parallel == 1:
            self._loop(self._answer)
            return
        with ThreadPoolExecutor(self._export.parallel, thread_name_prefix="nbd-read") as pool:

            def answer(request: Request, payload: memoryview) -> None:
                if request.command in (Cmd.READ, Cmd.BLOCK_STATUS):
                    self._slots.acquire()
                    pool.submit(self._answer_beside, request)
                else:
                    self._answer(request, payload)

            self._loop(answer)

    def _loop(self, answer: Callable[[Request, memoryview], None]) -> None:
        while True:
            magic, *fields = REQUEST.unpack(self._wire.recv(REQUEST.size))
            request = Request(*fields)
            if magic != REQUEST_MAGIC or request.command == Cmd.DISC:
                return
            answer(request, self._payload(request))

    def _answer_beside(self, request: Request) -> None:
        try:
            self._answer(request, memoryview(b""))
        except (Gone, OSError):
            self._wire.shut()
        except BaseException:
            self._wire.shut()  # nobody shall wait for this answer
            _log.exception("an NBD request failed")
            raise
        finally:
            self._slots.release()

    def _answer(self, request: Request, payload: memoryview) -> None:
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
        """Return a buffer of this thread; it grows to the largest request, then stays."""
        if len(getattr(self._buffers, "room", b"")) < length:
            self._buffers.room = bytearray(max(length, PREFERRED_BLOCK))
        return memoryview(self._buffers.room)[:length]

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
        if request.offset % self._export.block or request.length % self._export.block or not request.length:
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
        if not self._structured:
            view = self._room(request.length)
            self._backend.read(request.offset, view)
            self._wire.send(SIMPLE.pack(SIMPLE_MAGIC, 0, request.cookie), view)
            return
        for offset, extent, last in self._pieces(request):
            done = CHUNK_DONE if last else 0
            place = struct.pack(">Q", offset)
            if extent.data:
                part = self._room(extent.length)
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
            extents = list(_short(self._backend.extents(request.offset, request.length)))
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


def _short(extents: Iterable[Extent]) -> Iterator[Extent]:
    """Cut data into chunks: what a connection needs of memory is so much for each read at a time."""
    for extent in extents:
        step = MAX_CHUNK if extent.data else extent.length
        for start in range(0, extent.length, step):
            yield Extent(min(step, extent.length - start), extent.data)
