"""The lowest layer of the NBD client: the protocol's numbers, and a socket that is never patient for ever.

Source: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
"""

from __future__ import annotations

import errno
import socket
import ssl
import struct
from enum import IntEnum, IntFlag
from typing import Final

from ..spi.errors import Internal, Outcome, StorageError, Unavailable
from .os_errors import error_of

SERVER_MAGIC: Final = 0x4E42444D41474943  # "NBDMAGIC"
OPTION_MAGIC: Final = 0x49484156454F5054  # "IHAVEOPT"
OPTION_REPLY_MAGIC: Final = 0x0003E889045565A9
REQUEST_MAGIC: Final = 0x25609513
SIMPLE_REPLY_MAGIC: Final = 0x67446698
STRUCTURED_REPLY_MAGIC: Final = 0x668E33EF

BASE_ALLOCATION: Final = b"base:allocation"
MAX_STRING: Final = 4096
"""Bytes of an export name and of every other string, by the specification."""


class Option(IntEnum):
    """What a client asks for before it chooses the export."""

    STARTTLS = 5
    GO = 7
    STRUCTURED_REPLY = 8
    SET_META_CONTEXT = 10


class OptionReply(IntEnum):
    """The server's answers; from 2^31 on they are refusals."""

    ACK = 1
    INFO = 3
    META_CONTEXT = 4
    ERR_UNSUP = 2**31 + 1
    ERR_POLICY = 2**31 + 2
    ERR_INVALID = 2**31 + 3
    ERR_PLATFORM = 2**31 + 4
    ERR_TLS_REQD = 2**31 + 5
    ERR_UNKNOWN = 2**31 + 6
    ERR_SHUTDOWN = 2**31 + 7


class Info(IntEnum):
    """Kinds of `OptionReply.INFO`."""

    EXPORT = 0
    BLOCK_SIZE = 3


class ExportFlag(IntFlag):
    """What the server says about the export."""

    READ_ONLY = 1 << 1
    SEND_FLUSH = 1 << 2
    SEND_TRIM = 1 << 5
    SEND_WRITE_ZEROES = 1 << 6
    CAN_MULTI_CONN = 1 << 8


class Command(IntEnum):
    """Requests of the transmission phase."""

    READ = 0
    WRITE = 1
    DISCONNECT = 2
    FLUSH = 3
    TRIM = 4
    WRITE_ZEROES = 6
    BLOCK_STATUS = 7

    @property
    def changes(self) -> bool:
        """Whether the export may be different afterwards."""
        return self in (Command.WRITE, Command.FLUSH, Command.TRIM, Command.WRITE_ZEROES)


class Chunk(IntEnum):
    """Kinds of structured reply chunks; those with bit 15 are errors."""

    NONE = 0
    OFFSET_DATA = 1
    OFFSET_HOLE = 2
    BLOCK_STATUS = 5


CHUNK_DONE: Final = 1
CHUNK_ERROR: Final = 1 << 15

# The protocol's errno values are Linux's, except that it fixes them for every platform.
_TRANSIENT = {12: "ENOMEM", 108: "ESHUTDOWN"}


def server_error(command: Command, number: int) -> StorageError:
    """Return the error for what the server answered to a command.

    The table is that of the kernel's errors (EIO is `DataLoss`: the server has the bytes no more, or
    did not keep them), plus ENOMEM and ESHUTDOWN: `Unavailable`, come back later.
    """
    outcome = Outcome.UNKNOWN if command.changes else Outcome.NOT_APPLIED
    if number in _TRANSIENT:
        return Unavailable(f"the NBD server answered {_TRANSIENT[number]} to {command.name}", outcome=outcome)
    return error_of(number, f"the NBD server refused {command.name}", outcome=outcome)


class Wire:
    """A connected socket whose every operation is bounded in time.

    The limit is set in the kernel (SO_RCVTIMEO) and not by `settimeout`: that one makes the socket
    non-blocking, so MSG_WAITALL would be ignored and a 2 MiB read would take the GIL a dozen times.

    Args:
        sock: connected; owned from now on.
        timeout: seconds that one send or receive may take.
    """

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        sock.settimeout(None)
        # Zero would mean "for ever".
        microseconds = max(1, int(timeout * 1e6))
        limit = struct.pack("@ll", *divmod(microseconds, 1_000_000))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        if sock.family != socket.AF_UNIX:
            # A request is 28 bytes: with Nagle's algorithm each would wait for the last one's ACK.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._timeout = timeout
        self._receive_flags: int = socket.MSG_WAITALL
        self._more: int = socket.MSG_MORE

    def start_tls(self, context: ssl.SSLContext, server_hostname: str) -> None:
        """Encrypt from here on."""
        try:
            self._sock = context.wrap_socket(self._sock, server_hostname=server_hostname)
        except OSError as error:
            raise self._failure(error, Outcome.NOT_APPLIED) from error
        self._receive_flags = self._more = 0  # SSL sockets take no flags

    def send(self, header: bytes, payload: memoryview | bytes = b"", *, outcome: Outcome) -> None:
        """Send header and payload, in one TCP segment where both fit."""
        try:
            if len(payload):
                self._sock.sendall(header, self._more)
                self._sock.sendall(payload)
            else:
                self._sock.sendall(header)
        except OSError as error:
            raise self._failure(error, outcome) from error

    def receive(self, length: int, *, outcome: Outcome) -> bytes:
        """Return exactly `length` bytes."""
        buffer = bytearray(length)
        self.receive_into(memoryview(buffer), outcome=outcome)
        return bytes(buffer)

    def receive_into(self, buffer: memoryview, *, outcome: Outcome) -> None:
        """Fill all of `buffer`."""
        done = 0
        while done < len(buffer):
            try:
                count = self._sock.recv_into(buffer[done:], 0, self._receive_flags)
            except OSError as error:
                raise self._failure(error, outcome) from error
            if count == 0:
                raise Unavailable("the NBD server closed the connection", outcome=outcome)
            done += count

    def _failure(self, error: OSError, outcome: Outcome) -> StorageError:
        if isinstance(error, BlockingIOError | ssl.SSLWantReadError | ssl.SSLWantWriteError):
            return Unavailable(f"the NBD server did not move for {self._timeout:g} s", outcome=outcome)
        if isinstance(error, ssl.SSLError):
            return Unavailable("the NBD server's TLS failed", outcome=outcome, detail=error.reason or "")
        name = errno.errorcode.get(error.errno or 0, type(error).__name__)
        return Unavailable(f"the connection to the NBD server broke: {name}", outcome=outcome)

    def close(self) -> None:
        """Close; repeatable."""
        self._sock.close()


def nonsense(what: str, *, outcome: Outcome = Outcome.NOT_APPLIED) -> Internal:
    """Return the error for a server that breaks the protocol."""
    return Internal(f"the NBD server breaks the protocol: {what}", outcome=outcome)
