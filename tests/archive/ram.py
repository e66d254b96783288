"""A volume in memory as block source and sink, which counts what is read and written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from bollard.core.spi import Extent, ExtentKind


class Ram:
    """A volume; clones share its bytes.

    Args:
        data: the bytes, or how many zero bytes.
        cell: the raster in which `extents` tells data from holes.
    """

    def __init__(self, data: bytes | int, cell: int = 4096) -> None:
        self.data = bytearray(data)
        self.cell = cell
        self.reads: list[tuple[int, int]] = []
        self.writes: list[tuple[int, int]] = []
        self.zeros: list[tuple[int, int]] = []
        self.flushed = 0
        self.open_clones: list[int] = [0]

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)

    def clone(self) -> Self:
        """Return another connection to the same bytes."""
        other = object.__new__(type(self))
        other.__dict__ = self.__dict__
        self.open_clones[0] += 1
        return other

    def close(self) -> None:
        """Count it."""
        self.open_clones[0] -= 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """Yield DATA and HOLE by cells."""
        position, end = offset, offset + length
        while position < end:
            stop = min(end, (position // self.cell + 1) * self.cell)
            kind = ExtentKind.DATA if any(self.data[position:stop]) else ExtentKind.HOLE
            yield Extent(position, stop - position, kind)
            position = stop

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Copy out."""
        assert offset + len(buffer) <= self.size
        self.reads.append((offset, len(buffer)))
        buffer[:] = self.data[offset : offset + len(buffer)]

    def write(self, offset: int, data: memoryview | bytes) -> None:
        """Copy in."""
        assert offset + len(data) <= self.size
        self.writes.append((offset, len(data)))
        self.data[offset : offset + len(data)] = data

    def zero(self, offset: int, length: int) -> None:
        """Zero a range."""
        assert offset + length <= self.size
        self.zeros.append((offset, length))
        self.data[offset : offset + length] = bytes(length)

    def flush(self) -> None:
        """Count it."""
        self.flushed += 1
