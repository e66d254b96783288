"""Frames between the suite and a driver host: one JSON header, then bytes that JSON would blow up.

    0        4        8                8+h            8+h+b
    ├── h ───┼── b ───┼── JSON ────────┼── blob ───────┤      lengths: big-endian, both bounded

A driver host counts what its sockets do (crashes.py), and this one is not the driver's: it is written to
with `os.writev`, and read with the method that `socket` had before it was wrapped.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MIB = 1024 * 1024
MAX_HEADER = 32 * MIB
MAX_BLOB = 16 * MIB
PIECE = 4 * MIB
"""Bytes that longer data is cut into."""

_LENGTHS = struct.Struct("!II")
_receive = socket.socket.recv
_JSON = json.JSONEncoder(separators=(",", ":"), check_circular=False)

Buffer = bytes | bytearray | memoryview


class BrokenFrame(Exception):
    """The other side sent what is no frame, or a frame was cut short on the way out."""


class FrameTooLarge(Exception):
    """What should be sent is larger than any frame may be; nothing was sent."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message."""

    header: Mapping[str, Any]
    blob: bytes

    @property
    def op(self) -> str:
        """What it is about."""
        return str(self.header.get("op"))


class Channel:
    """One end of the socket. Any thread may send, one receives.

    Args:
        sock: connected and blocking; the channel owns it from now on.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sending = threading.Lock()
        self._cut = False

    def send(self, header: Mapping[str, Any], *blobs: Buffer) -> None:
        """Send one frame, whole.

        Raises:
            FrameTooLarge: nothing was sent.
            BrokenFrame: an earlier frame was cut short.
            OSError: the other side is gone, so it did not get all of this frame.
        """
        text = _JSON.encode(header).encode("ascii")
        size = sum(memoryview(b).nbytes for b in blobs)
        if len(text) > MAX_HEADER or size > MAX_BLOB:
            raise FrameTooLarge(f"{len(text) + size} bytes")
        with self._sending:
            if self._cut:
                raise BrokenFrame("an earlier frame was cut short")
            self._cut = True  # for as long as one is under way: Ctrl-C may end it anywhere
            _write_all(self._sock.fileno(), [_LENGTHS.pack(len(text), size), text, *blobs])
            self._cut = False

    def receive(self) -> Frame | None:
        """Wait for the next frame; None when the other side has ended.

        Raises:
            BrokenFrame: it is too large, cut short, or not JSON.
        """
        lengths = self._read(_LENGTHS.size)
        if lengths is None:
            return None
        header, blob = _LENGTHS.unpack(lengths)
        if header > MAX_HEADER or blob > MAX_BLOB:
            raise BrokenFrame(f"a frame of {header} + {blob} bytes")
        text, data = self._read(header), self._read(blob)
        if text is None or data is None:
            raise BrokenFrame("a frame was cut short")
        try:
            return Frame(json.loads(text), data)
        except (ValueError, RecursionError) as error:
            raise BrokenFrame("a header that is not JSON") from error

    def close(self) -> None:
        """Close the socket; repeatable."""
        self._sock.close()

    def _read(self, size: int) -> bytes | None:
        """Return so many bytes in one piece, without a copy; None if the other side ended before."""
        if not size:
            return b""
        try:
            data = _receive(self._sock, size, socket.MSG_WAITALL)
            while 0 < len(data) < size:  # a signal came in between
                more = _receive(self._sock, size - len(data), socket.MSG_WAITALL)
                data = data + more if more else b""
        except ConnectionResetError:
            return None
        return data or None


def _write_all(fd: int, buffers: Sequence[Buffer]) -> None:
    left = [memoryview(b).cast("B") for b in buffers if memoryview(b).nbytes]
    while left:
        count = os.writev(fd, left)
        while left and count >= len(left[0]):
            count -= len(left.pop(0))
        if count:
            left[0] = left[0][count:]
