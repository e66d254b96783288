"""Bodies to put that misbehave, wait, or are made while they are read."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import BinaryIO, cast

from ..core.spi import Body


class SourceDied(OSError):
    """The reader of a body broke, as when the disk behind it does."""


class _Reader(io.RawIOBase):
    """Hands out `data` and calls `halfway` once, before it gives what comes after the middle."""

    def __init__(self, data: bytes, halfway: Callable[[], None]) -> None:
        super().__init__()
        self._data = io.BytesIO(data)
        self._middle = len(data) // 2
        self._halfway = halfway

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        place = self._data.tell()
        if place < self._middle:
            return self._data.read(self._middle - place if size < 0 else min(size, self._middle - place))
        if place == self._middle:
            self._halfway()
        return self._data.read(size)


class _Trickle(io.RawIOBase):
    """Gives at most a thousand bytes at a time, as a pipe may."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._data.read(min(size, 1000) if size >= 0 else 1000)


def trickling(data: bytes) -> Body:
    """Return a body whose reader gives less than it is asked for."""
    return replace(Body.of(data), open=lambda: cast("BinaryIO", _Trickle(data)))


def stopping(data: bytes, halfway: Callable[[], None]) -> Body:
    """Return a body that calls `halfway` in its middle; what that raises is what the reader raises."""
    return replace(Body.of(data), open=lambda: cast("BinaryIO", _Reader(data, halfway)))


def dying(data: bytes) -> Body:
    """Return a body whose reader dies in its middle, each time that it is opened."""

    def die() -> None:
        raise SourceDied("the source of this body died, on purpose")

    return stopping(data, die)


@dataclass(slots=True)
class Gate:
    """A body that waits in its middle: `reached` tells that it is there, `release` lets it go on."""

    data: bytes
    reached: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)

    def body(self) -> Body:
        """Return the body; a second reader of it does not wait once the gate was released."""

        def wait() -> None:
            self.reached.set()
            # Longer than the body's call may take: a store that ignores its deadline shows as that.
            self.release.wait(120)

        return stopping(self.data, wait)


class _Repeating(io.RawIOBase):
    """`size` bytes of one block, again and again: a large body that needs no memory."""

    def __init__(self, block: bytes, size: int) -> None:
        super().__init__()
        self._block = memoryview(block)
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            return b"".join(iter(lambda: self.read(len(self._block)), b""))
        start = self._at % len(self._block)
        piece = bytes(self._block[start : start + min(size, self._size - self._at)])
        self._at += len(piece)
        return piece


def large(block: bytes, size: int) -> Body:
    """Return a body of `size` bytes, a multiple of the block's length, made while it is read."""
    digest = hashlib.sha256()
    for _ in range(size // len(block)):
        digest.update(block)
    return Body(
        size=size,
        sha256=digest.hexdigest(),
        open=lambda: cast("BinaryIO", _Repeating(block, size)),
    )
