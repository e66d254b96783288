"""Block sources and sinks: what the archive reads from and restores to.

      Location ── open_source ──> BlockSource ── extents, read_into ──> archive
      Location ── open_sink ───> BlockSink   <── write, zero, flush ─── restore

A source or sink is one connection and belongs to one thread at a time; `clone()` opens another one
to the same volume (the NBD and file protocols gain from several in parallel).
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Protocol, Self

from ..spi.model import Extent


class _Connection(Protocol):
    """What both directions share."""

    @property
    def size(self) -> int:
        """Virtual size in bytes."""

    def clone(self) -> Self:
        """Open another connection to the same volume; close each of them."""

    def close(self) -> None:
        """Close; repeatable."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class BlockSource(_Connection, Protocol):
    """A readable volume or snapshot."""

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """Yield sorted, touching extents that cover exactly [offset, offset + length).

        Raises:
            StorageError: Unavailable if the connection broke, DataLoss if the image is damaged.
        """

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill all of `buffer` from `offset`; a short read raises `DataLoss`."""


class BlockSink(_Connection, Protocol):
    """A writable volume. Nothing is durable before `flush`."""

    def write(self, offset: int, data: memoryview | bytes) -> None:
        """Write all of `data` at `offset`."""

    def zero(self, offset: int, length: int) -> None:
        """Make a range read as zeros, deallocating it where the backend can (sparse stays sparse)."""

    def flush(self) -> None:
        """Make everything written through *any* clone of this sink durable."""
