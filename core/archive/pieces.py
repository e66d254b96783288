"""A part in memory without a copy of the data: headers, and frames where they were read.

    position   0      60                     65596
    piece      header |frame (a view of      |header |frame ...
                       the worker's buffer)

A worker so needs one window of memory and not two. The frames must stay as they are until the part has
been stored.
"""

from __future__ import annotations

import bisect
import hashlib
import io
from typing import BinaryIO, cast

from ..dataplane.checksum import FAST, crc32
from ..spi.image_store import Body


class Pieces:
    """Takes pieces in their order; each is hashed at once and counted."""

    def __init__(self) -> None:
        self._pieces: list[memoryview] = []
        self._digest = hashlib.sha256()
        self._crc = 0
        self.size = 0

    def write(self, data: bytes | memoryview) -> None:
        """Keep `data`, without copying it."""
        view = memoryview(data)
        if len(view):
            self._pieces.append(view)
            self._digest.update(view)
            self._crc = crc32(view, self._crc) if FAST else 0
            self.size += len(view)

    def finish(self) -> Joined:
        """Return all of them as one."""
        return Joined(self._pieces, self._digest.hexdigest(), self._crc if FAST else None)


class Joined:
    """Pieces one after the other: `size` in bytes, `sha256` in hex, any number of readers.

    `crc32` is there where it costs next to nothing: the driver then checks that, and not SHA-256 once
    more, while it sends.
    """

    def __init__(self, pieces: list[memoryview], sha256: str, crc: int | None) -> None:
        self.pieces = pieces
        self.sha256 = sha256
        self.crc32 = crc
        self.starts: list[int] = []
        self.size = 0
        for piece in pieces:
            self.starts.append(self.size)
            self.size += len(piece)

    def body(self) -> Body:
        """Return it as what a store driver puts."""
        return Body(size=self.size, sha256=self.sha256, open=self.open, crc32=self.crc32)

    def open(self) -> BinaryIO:
        """Return a fresh reader from the start."""
        return cast("BinaryIO", io.BufferedReader(_Reader(self), 1024 * 1024))


class _Reader(io.RawIOBase):
    def __init__(self, joined: Joined) -> None:
        self._joined = joined
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._joined.size}[whence]
        self._position = base + offset
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # any buffer, as io says
        target = memoryview(buffer).cast("B")
        if self._position >= self._joined.size:
            return 0
        index = bisect.bisect_right(self._joined.starts, self._position) - 1
        piece = self._joined.pieces[index][self._position - self._joined.starts[index] :]
        count = min(len(piece), len(target))
        target[:count] = piece[:count]
        self._position += count
        return count
