"""The NBD client against servers that lie: a script of bytes at the other end of a socket pair."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bollard.core.dataplane import NbdSource
from bollard.core.dataplane.nbd_wire import (
    OPTION_REPLY_MAGIC,
    SIMPLE_REPLY_MAGIC,
    STRUCTURED_REPLY_MAGIC,
    Chunk,
    Option,
    OptionReply,
)
from bollard.core.spi import Extent, ExtentKind, Internal, StorageError, Unavailable
from bollard.transfer_objects.secret import Secret

SIZE = 1024 * 1024
DONE = 1
Answer = Callable[[int, int, int], bytes]
"""(cookie, offset, length) of the client's first request -> what the server sends."""


def greeting() -> bytes:
    """A fixed newstyle greeting."""
    return b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3)


def reply(option: int, kind: int, data: bytes = b"") -> bytes:
    """An option reply."""
    return struct.pack(">QIII", OPTION_REPLY_MAGIC, option, kind, len(data)) + data


def handshake(size: int = SIZE, context: int = 7) -> bytes:
    """All that an honest server says before transmission; it may be said without listening."""
    return (
        greeting()
        + reply(Option.STRUCTURED_REPLY, OptionReply.ACK)
        + reply(
            Option.SET_META_CONTEXT, OptionReply.META_CONTEXT, struct.pack(">I", context) + b"base:allocation"
        )
        + reply(Option.SET_META_CONTEXT, OptionReply.ACK)
        + reply(Option.GO, OptionReply.INFO, struct.pack(">HQH", 0, size, 1))
        + reply(Option.GO, OptionReply.ACK)
    )


def chunk(cookie: int, kind: int, data: bytes, flags: int = DONE) -> bytes:
    """A structured reply chunk."""
    return struct.pack(">IHHQI", STRUCTURED_REPLY_MAGIC, flags, kind, cookie, len(data)) + data


def data_chunk(cookie: int, offset: int, data: bytes, flags: int = DONE) -> bytes:
    """A chunk of data."""
    return chunk(cookie, Chunk.OFFSET_DATA, struct.pack(">Q", offset) + data, flags)


class Script:
    """An endpoint whose server answers the first request as told, and then says no more."""

    hostname = None

    def __init__(self, opening: bytes, answer: Answer | None = None) -> None:
        self._opening = opening
        self._answer = answer
        self._thread = threading.Thread(target=self._serve)
        self.released = 0

    def connect(self) -> socket.socket:
        """Return our end."""
        ours, self._theirs = socket.socketpair()
        self._thread.start()
        return ours

    def release(self) -> None:
        """Count, and see the script to its end."""
        self.released += 1
        self._thread.join(10)

    def _serve(self) -> None:
        with self._theirs, suppress(ConnectionError):  # the client may have had enough
            self._theirs.sendall(self._opening)
            if self._answer and (request := self._first_request()):
                self._theirs.sendall(self._answer(*request))
            # Closing with unread bytes would be a reset, and take the answer back.
            self._theirs.shutdown(socket.SHUT_WR)
            while self._theirs.recv(65536):
                pass

    def _first_request(self) -> tuple[int, int, int] | None:
        seen = b""
        while (at := seen.find(b"\x25\x60\x95\x13")) < 0 or len(seen) < at + 28:
            data = self._theirs.recv(65536)
            if not data:
                return None
            seen += data
        _, _, _, cookie, offset, length = struct.unpack_from(">IHHQQI", seen, at)
        return cookie, offset, length


@contextmanager
def server(answer: Answer) -> Iterator[NbdSource]:
    """A source on a server that is honest up to the first request."""
    with NbdSource(Script(handshake(), answer), Secret("x"), timeout=5) as source:
        yield source


def refuse_to_open(opening: bytes) -> StorageError:
    """Open, expect a refusal, and check that the connection was given back once."""
    script = Script(opening)
    with pytest.raises(StorageError) as caught:
        NbdSource(script, Secret("x"), timeout=5)
    assert script.released == 1
    return caught.value


@pytest.mark.parametrize(
    "opening",
    [
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="not NBD"),
        pytest.param(greeting() + b"\xff" * 20, id="no option reply"),
        pytest.param(greeting() + struct.pack(">QIII", OPTION_REPLY_MAGIC, 8, 1, 2**31), id="2 GiB reply"),
        pytest.param(greeting() + reply(8, 1) + reply(7, 1), id="answers another option"),
        pytest.param(greeting() + reply(8, 1) + reply(10, 3) * 100, id="replies without end"),
        pytest.param(greeting() + reply(8, 1) + reply(10, 1) + reply(7, 1), id="no size"),
        pytest.param(handshake(size=2**63), id="impossible size"),
        pytest.param(
            greeting()
            + reply(8, 1)
            + reply(10, 1)
            + reply(7, 3, struct.pack(">HIII", 3, 3, 4096, 4096))
            + reply(7, 3, struct.pack(">HQH", 0, SIZE, 1))
            + reply(7, 1),
            id="block size 3",
        ),
    ],
)
def test_a_nonsense_handshake_is_refused(opening: bytes) -> None:
    """The client says what is wrong with the server and lets go of the connection."""
    assert isinstance(refuse_to_open(opening), Internal)


@given(st.integers(0, len(handshake()) - 1))
def test_a_handshake_that_breaks_off_anywhere_is_unavailable(length: int) -> None:
    """Whatever the byte where the server dies."""
    assert isinstance(refuse_to_open(handshake()[:length]), Unavailable)


@given(st.binary(max_size=64))
def test_rubbish_after_the_greeting_never_crashes_or_hangs(data: bytes) -> None:
    """Only errors of the taxonomy come out."""
    assert isinstance(refuse_to_open(greeting() + data), Internal | Unavailable)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda c, o, n: data_chunk(c, o, b"x" * (n + 1)), id="too long"),
        pytest.param(lambda c, o, n: data_chunk(c, o + 1, b"x" * n), id="shifted"),
        pytest.param(lambda c, o, n: data_chunk(c, o - 1, b"x" * n), id="before"),
        pytest.param(lambda c, o, n: data_chunk(c, o, b"x" * (n - 1)), id="too short"),
        pytest.param(
            lambda c, o, n: data_chunk(c, o, b"x" * (n // 2), 0) * 2 + chunk(c, 0, b""), id="overlap"
        ),
        pytest.param(lambda c, _o, _n: chunk(c, Chunk.NONE, b""), id="nothing"),
        pytest.param(
            lambda c, o, _n: chunk(c, Chunk.OFFSET_HOLE, struct.pack(">QI", o, 2**31)), id="huge hole"
        ),
        pytest.param(lambda c, o, _n: chunk(c, Chunk.OFFSET_HOLE, struct.pack(">QI", o, 0)), id="empty hole"),
        pytest.param(lambda c, _o, _n: chunk(c, 99, b"what?"), id="unknown chunk"),
        pytest.param(lambda c, _o, _n: chunk(c, 0x8001, b"..."), id="short error"),
        pytest.param(lambda c, o, n: data_chunk(c + 1, o, b"x" * n), id="unknown cookie"),
        pytest.param(lambda _c, _o, _n: b"\0" * 64, id="no magic"),
        pytest.param(
            lambda c, _o, _n: struct.pack(">IIQ", STRUCTURED_REPLY_MAGIC, 0x10005, c) + b"\xff" * 4,
            id="4 GiB",
        ),
    ],
)
def test_a_lying_answer_to_read_is_refused(answer: Answer) -> None:
    """Nothing outside of the buffer is touched, no old memory passes for data, and the end is final."""
    with server(answer) as source:
        memory = bytearray(b"\xee" * 3072)
        with pytest.raises(Internal):
            source.read_into(1024, memoryview(memory)[1024:2048])
        assert memory[:1024] == memory[2048:] == b"\xee" * 1024
        with pytest.raises(Unavailable, match="broken"):
            source.read_into(0, memoryview(memory))


def test_an_honest_answer_in_odd_pieces_is_taken() -> None:
    """Chunks may come in any order, with holes, and an end of their own."""

    def answer(cookie: int, offset: int, length: int) -> bytes:
        assert length == 1000
        return (
            data_chunk(cookie, offset + 600, b"c" * 400, 0)
            + chunk(cookie, Chunk.OFFSET_HOLE, struct.pack(">QI", offset + 100, 500), 0)
            + data_chunk(cookie, offset, b"a" * 100, 0)
            + chunk(cookie, Chunk.NONE, b"")
        )

    memory = bytearray(b"\xee" * 1000)
    with server(answer) as source:
        source.read_into(5, memoryview(memory))
    assert memory == b"a" * 100 + bytes(500) + b"c" * 400


def status(*descriptors: tuple[int, int], context: int = 7) -> Answer:
    """A block status reply."""
    data = struct.pack(">I", context) + b"".join(struct.pack(">II", *d) for d in descriptors)
    return lambda cookie, _offset, _length: chunk(cookie, Chunk.BLOCK_STATUS, data)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(status((0, 0)), id="no length"),
        pytest.param(status((512, 0), (0, 3)), id="no length later"),
        pytest.param(status(), id="no extents"),
        pytest.param(status((SIZE, 0), context=8), id="another context"),
        pytest.param(
            lambda c, _o, _n: chunk(c, Chunk.BLOCK_STATUS, b"\0\0\0\7" + bytes(9)), id="half an extent"
        ),
        pytest.param(lambda c, _o, _n: chunk(c, Chunk.NONE, b""), id="nothing"),
        pytest.param(
            lambda c, _o, _n: struct.pack(">IHHQI", STRUCTURED_REPLY_MAGIC, 1, 5, c, 2**32 - 4),
            id="4 GiB of extents",
        ),
        pytest.param(lambda c, _o, _n: struct.pack(">IIQ", SIMPLE_REPLY_MAGIC, 0, c), id="simple reply"),
    ],
)
def test_extents_that_do_not_advance_are_refused(answer: Answer) -> None:
    """Neither an endless loop nor endless memory."""
    with server(answer) as source, pytest.raises(Internal):
        list(source.extents(0, SIZE))


def test_an_extent_beyond_what_was_asked_is_cut() -> None:
    """The last extent may be longer; the cover is still exact. A hole that may hold anything is data."""
    with server(status((512, 3), (512, 1), (512, 2), (2**32 - 1, 0), (1, 3))) as source:
        assert list(source.extents(256, 2048)) == [
            Extent(256, 512, ExtentKind.HOLE),
            Extent(768, 512, ExtentKind.DATA),
            Extent(1280, 512, ExtentKind.ZERO),
            Extent(1792, 512, ExtentKind.DATA),
        ]
