"""A minimal NBD client: fixed newstyle handshake, simple replies, one request at a time.

Enough for a simulated guest that writes 4 KiB blocks; no TLS, no structured replies.
Protocol: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
"""

from __future__ import annotations

import socket
import struct

_IHAVEOPT = 0x49484156454F5054
_OPTION_REPLY = 0x3E889045565A9
_REQUEST, _SIMPLE_REPLY = 0x25609513, 0x67446698
_OPT_GO = 7
_REP_ACK, _REP_INFO = 1, 3
_READ, _WRITE, _DISCONNECT, _FLUSH = 0, 1, 2, 3
_FLAGS = 3  # fixed newstyle, no zeroes


class NbdClient:
    """One connection to an export.

    Args:
        host: of the server.
        port: of the server.
        export: its name; may be a secret, so it is in no error.
        timeout_s: seconds for each step.

    Raises:
        OSError: no connection, no such export, or a failed request.
    """

    def __init__(self, host: str, port: int, export: str, timeout_s: float = 10.0) -> None:
        self._socket = socket.create_connection((host, port), timeout_s)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.size = self._open(export.encode())
        except BaseException:
            self._socket.close()
            raise

    def _open(self, export: bytes) -> int:
        if self._receive(16) != b"NBDMAGIC" + _IHAVEOPT.to_bytes(8, "big"):
            raise ConnectionError("not an NBD server with fixed newstyle")
        self._receive(2)
        data = struct.pack(">I", len(export)) + export + struct.pack(">H", 0)
        self._socket.sendall(struct.pack(">IQII", _FLAGS, _IHAVEOPT, _OPT_GO, len(data)) + data)
        size = None
        while True:
            magic, _, kind, length = struct.unpack(">QIII", self._receive(20))
            body = self._receive(length)
            if magic != _OPTION_REPLY or kind not in (_REP_ACK, _REP_INFO):
                raise ConnectionRefusedError(f"the NBD server refused the export (reply {kind:#x})")
            if kind == _REP_INFO and body[:2] == b"\0\0":
                size = int.from_bytes(body[2:10], "big")
            if kind == _REP_ACK:
                break
        if size is None:
            raise ConnectionError("the NBD server told no size")
        return size

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the export."""
        self._request(_READ, offset, length)
        return self._receive(length)

    def write(self, offset: int, data: bytes) -> None:
        """Writes; durable after ``flush``."""
        self._request(_WRITE, offset, len(data), data)

    def flush(self) -> None:
        """Makes acknowledged writes durable."""
        self._request(_FLUSH, 0, 0)

    def _request(self, command: int, offset: int, length: int, data: bytes = b"") -> None:
        self._socket.sendall(struct.pack(">IHHQQI", _REQUEST, 0, command, 0, offset, length) + data)
        magic, error, _ = struct.unpack(">IIQ", self._receive(16))
        if magic != _SIMPLE_REPLY:
            raise ConnectionError("the NBD server sent something else than a simple reply")
        if error:
            raise OSError(error, "the NBD request failed")

    def _receive(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            part = self._socket.recv(length - len(data))
            if not part:
                raise ConnectionResetError("the NBD server closed the connection")
            data += part
        return bytes(data)

    def close(self) -> None:
        """Says goodbye and closes."""
        try:
            self._socket.sendall(struct.pack(">IHHQQI", _REQUEST, 0, _DISCONNECT, 0, 0, 0))
        except OSError:
            pass  # the server went first
        finally:
            self._socket.close()
