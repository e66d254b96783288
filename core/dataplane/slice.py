"""A range of a volume as if it were a volume of its own.

volume   0 ........ offset [=============] offset + length ........ end
slice                    0 [=============] length
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

from ..spi.errors import InvalidArgument
from ..spi.model import Extent
from .api import BlockSink, BlockSource

C = TypeVar("C", BlockSource, BlockSink)


class _Slice(Generic[C]):
    """What both directions share.

    Args:
        whole: the volume; owned from now on.
        offset: where the slice begins, `length` bytes.

    Raises:
        InvalidArgument: the range leaves the volume.
    """

    def __init__(self, whole: C, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > whole.size:
            raise InvalidArgument(f"the range {offset}:{length} lies outside of the {whole.size} bytes")
        self._whole: C = whole
        self._offset = offset
        self._length = length

    @property
    def size(self) -> int:
        """Bytes of the slice."""
        return self._length

    def clone(self) -> Self:
        """Return the same slice of another connection."""
        return type(self)(self._whole.clone(), self._offset, self._length)

    def close(self) -> None:
        """Close the volume; repeatable."""
        self._whole.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _place(self, offset: int, length: int) -> int:
        """Return where `length` bytes at `offset` of the slice begin in the volume."""
        if offset < 0 or offset + length > self._length:
            raise InvalidArgument(f"{length} bytes at {offset} lie outside of the {self._length} bytes")
        return self._offset + offset


class SourceSlice(_Slice[BlockSource]):
    """A range of a source."""

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """Yield the extents of the range, counted from the slice's start."""
        for extent in self._whole.extents(self._place(offset, length), length):
            yield Extent(extent.offset - self._offset, extent.length, extent.kind)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill all of `buffer`."""
        self._whole.read_into(self._place(offset, len(buffer)), buffer)


class SinkSlice(_Slice[BlockSink]):
    """A range of a sink; what is around it stays as it is."""

    def write(self, offset: int, data: memoryview | bytes) -> None:
        """Write all of `data`."""
        self._whole.write(self._place(offset, len(data)), data)

    def zero(self, offset: int, length: int) -> None:
        """Make a range read as zeros."""
        self._whole.zero(self._place(offset, length), length)

    def flush(self) -> None:
        """Make what was written durable."""
        self._whole.flush()
