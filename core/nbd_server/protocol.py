"""Numbers, structures and exact socket I/O of the NBD protocol, for the server."""

from __future__ import annotations

import errno
import logging
import socket
import ssl
import struct
import threading
from enum import IntEnum, IntFlag
from typing import NamedTuple

MIN_BLOCK = 512
PREFERRED_BLOCK = 64 * 1024
MAX_PAYLOAD = 32 * 1024 * 1024
MAX_CHUNK = 2 * 1024 * 1024  # of data, in a structured reply
MAX_OPTION = 64 * 1024  # an option longer than this is no honest client
MAX_EXTENTS = 8192  # descriptors per block status reply: 64 KiB, the client asks on
MAGIC = 0x4E42444D41474943
OPTION_MAGIC = 0x49484156454F5054
OPTION_REPLY_MAGIC = 0x3E889045565A9
REQUEST_MAGIC = 0x25609513
SIMPLE_MAGIC = 0x67446698
CHUNK_MAGIC = 0x668E33EF
ALLOCATION = b"base:allocation"
ALLOCATION_ID = 1
CHUNK_DONE = 1
HOLE_AND_ZERO = 3

OPTION = struct.Struct(">QII")  # magic, option, length
OPTION_REPLY = struct.Struct(">QIII")  # magic, option, type, length
REQUEST = struct.Struct(">IHHQQI")  # magic, flags, command, cookie, offset, length
SIMPLE = struct.Struct(">IIQ")  # magic, error, cookie
CHUNK = struct.Struct(">IHHQI")  # magic, flags, type, cookie, length


class Opt(IntEnum):
    """Options of the handshake."""

    EXPORT_NAME = 1
    ABORT = 2
    LIST = 3
    STARTTLS = 5
    INFO = 6
    GO = 7
    STRUCTURED_REPLY = 8
    LIST_META_CONTEXT = 9
    SET_META_CONTEXT = 10


class Rep(IntEnum):
    """Replies to options."""

    ACK = 1
    INFO = 3
    META_CONTEXT = 4
    ERR_UNSUP = 0x80000001
    ERR_INVALID = 0x80000003
    ERR_TLS_REQD = 0x80000005
    ERR_UNKNOWN = 0x80000006


class Cmd(IntEnum):
    """Commands of the transmission phase."""

    READ = 0
    WRITE = 1
    DISC = 2
    FLUSH = 3
    TRIM = 4
    WRITE_ZEROES = 6
    BLOCK_STATUS = 7


class CmdFlag(IntFlag):
    """Flags of a command. NO_HOLE is accepted and ignored: zero detection never stores zeroes."""

    FUA = 1
    DF = 4
    REQ_ONE = 8


class Chunk(IntEnum):
    """Types of structured reply chunks."""

    NONE = 0
    DATA = 1
    HOLE = 2
    BLOCK_STATUS = 5
    ERROR = 0x8001


class TxFlag(IntFlag):
    """What an export can do."""

    HAS_FLAGS = 1
    READ_ONLY = 2
    FLUSH = 4
    FUA = 8
    TRIM = 32
    WRITE_ZEROES = 64
    DF = 128
    MULTI_CONN = 256


WRITABLE = (
    TxFlag.HAS_FLAGS
    | TxFlag.FLUSH
    | TxFlag.FUA
    | TxFlag.TRIM
    | TxFlag.WRITE_ZEROES
    | TxFlag.DF
    | TxFlag.MULTI_CONN
)
MUTATING = frozenset({Cmd.WRITE, Cmd.TRIM, Cmd.WRITE_ZEROES})
PASSED_ERRORS = frozenset({errno.EPERM, errno.EIO, errno.ENOMEM, errno.EINVAL, errno.ENOSPC, errno.ESHUTDOWN})

_log = logging.getLogger(__name__)


class Request(NamedTuple):
    """One request without its magic; offset and length in bytes."""

    flags: int
    command: int
    cookie: int
    offset: int
    length: int


class Gone(Exception):
    """The connection is over: the peer left or was kicked."""


class Wire:
    """Exact reads and writes on a socket that another thread may shut down at any time."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.closing = threading.Event()
        self._swap = threading.Lock()
        self._sending = threading.Lock()

    def recv(self, length: int) -> bytes:
        """Exactly so many bytes; raises Gone at the end of the stream."""
        buffer = bytearray(length)
        self.recv_into(memoryview(buffer))
        return bytes(buffer)

    def recv_into(self, view: memoryview) -> None:
        """Fill the buffer; raises Gone at the end of the stream."""
        done = 0
        while done < len(view):
            got = self.sock.recv_into(view[done:])
            if not got:
                raise Gone
            done += got

    def send(self, *parts: bytes | memoryview) -> None:
        """Send all parts without another thread's between them, small ones as one segment."""
        # One segment for small answers: a header and its payload in two packets cost Nagle's 40 ms.
        if sum(map(len, parts)) <= PREFERRED_BLOCK:
            parts = (b"".join(parts),)
        with self._sending:
            for part in parts:
                self.sock.sendall(part)

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Go on under TLS."""
        with self._swap:
            # The TLS handshake is left to the first read, outside of the lock: the client sets its pace.
            self.sock = context.wrap_socket(self.sock, server_side=True, do_handshake_on_connect=False)

    def shut(self) -> None:
        """Stop all traffic, from another thread.

        SSLSocket.shutdown is avoided: it would drop the SSL object under the reader.
        """
        self.closing.set()
        with self._swap:
            try:
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)
            except OSError as error:  # already disconnected
                _log.debug("shutdown of a connection: %s", error)


def text(data: bytes) -> str:
    """A name as the client sent it; what is no UTF-8 matches no export."""
    return data.decode("utf-8", errors="replace")


def split_string(data: bytes) -> tuple[str | None, bytes]:
    """A 32-bit length, that many bytes, and the rest; None when it is cut short."""
    length = int.from_bytes(data[:4], "big")
    if len(data) < 4 + length:
        return None, b""
    return text(data[4 : 4 + length]), data[4 + length :]


def split_queries(data: bytes) -> list[bytes] | None:
    """The queries of a meta context option; None when they are malformed."""
    queries: list[bytes] = []
    number, rest = int.from_bytes(data[:4], "big"), data[4:]
    for _ in range(number):
        query, rest = split_string(rest)
        if query is None:
            return None
        queries.append(query.encode())
    return queries if len(data) >= 4 and not rest else None
