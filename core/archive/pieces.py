"""A part in memory without a copy of the data: headers made by `zipfile`, frames where they were read.

    position   0      52                     65588
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


class Pieces(io.RawIOBase):
    """A file to write to: keeps each write as a piece; a write at an old position replaces its piece.

    `zipfile` writes a member's header, its data, and then the header once more with the CRC: always
    whole pieces.
    """

    def __init__(self) -> None:
        self._pieces: dict[int, memoryview] = {}
        self._position = 0

    def writable(self) -> bool:
        """Tell that it can be written."""
        return True

    def seekable(self) -> bool:
        """Tell that it can be sought, so that `zipfile` writes no data descriptors."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to an absolute position."""
        if whence != io.SEEK_SET:
            raise io.UnsupportedOperation("only absolute positions")
        self._position = offset
        return offset

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]  # as BytesIO does
        """Keep `data`, without copying it."""
        view = memoryview(data)
        if len(view):
            self._pieces[self._position] = view
        self._position += len(view)
        return len(view)

    def finish(self) -> Joined:
        """Return the pieces in order."""
        return Joined([self._pieces[position] for position in sorted(self._pieces)])


class Joined:
    """Pieces one after the other: `size` in bytes, `sha256` in hex, any number of readers."""

    def __init__(self, pieces: list[memoryview]) -> None:
        self.pieces = pieces
        self.starts: list[int] = []
        self.size = 0
        digest = hashlib.sha256()
        for piece in pieces:
            self.starts.append(self.size)
            self.size += len(piece)
            digest.update(piece)
        self.sha256 = digest.hexdigest()

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
