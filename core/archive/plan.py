"""Which windows a backup looks at, and what it stores of each: pure functions of their arguments.

    full       windows in which the source has data
    increment  changed blocks known:  windows that they touch, and nothing else is ever read
               not known:             windows in which the source or the parent has data
    resized    from the window in which the shorter image ends, everything is looked at and stored whole

The same immutable source snapshot gives the same plan, so a second run makes the same parts.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, takewhile

from ..dataplane.api import BlockSource
from ..dataplane.extents import align, split
from ..spi.errors import InvalidArgument
from ..spi.model import Extent, ExtentKind
from .digest import HASH, ZERO
from .manifest import MAX_LAYERS, Manifest, Window


@dataclass(frozen=True, slots=True)
class Task:
    """One window to look at.

    Attributes:
        offset: in the volume, in bytes; `length` likewise.
        ranges: (offset, length) in bytes of what may have changed, aligned to granules; None: all of it.
        base: the window in the parent that unchanged granules come from; None: it is stored whole.
        need: bytes that will be read at most: what the window takes in memory.
    """

    offset: int
    length: int
    ranges: tuple[tuple[int, int], ...] | None
    base: Window | None
    need: int


def plan(
    source: BlockSource,
    window_size: int,
    granule: int,
    parent: Manifest | None,
    changed: Iterable[Extent] | None,
) -> Iterator[Task]:
    """Yield the windows to look at, by offset; lazily, so that memory does not grow with the volume.

    Raises:
        InvalidArgument: `changed` is not sorted, overlaps, or leaves the volume.
    """
    bases = {window.offset: window for window in parent.windows} if parent else {}
    border = source.size
    if parent and parent.size != source.size:
        border = min(parent.size, source.size) // window_size * window_size
    if changed is not None:
        extents = align(_checked(changed, source.size), granule, source.size)
        for offset, pieces in _by_window(extents, window_size, border):
            length = min(window_size, source.size - offset)
            ranges = tuple((piece.offset, piece.length) for piece in pieces)
            need = sum(piece_length for _, piece_length in ranges)
            yield Task(offset, length, ranges, bases.get(offset), need)
    start = 0 if changed is None else border
    data = (e for e in source.extents(start, source.size - start) if e.kind is ExtentKind.DATA)
    pieces_of = _by_window(align(data, granule, source.size), window_size, source.size)
    with_data = ((offset, sum(piece.length for piece in pieces)) for offset, pieces in pieces_of)
    old = ((offset, 0) for offset in bases if start <= offset < source.size)
    for offset, found in groupby(heapq.merge(with_data, old), key=lambda pair: pair[0]):
        length = min(window_size, source.size - offset)
        base = bases.get(offset) if offset < border else None
        yield Task(offset, length, None, base, sum(need for _, need in found))


def _checked(changed: Iterable[Extent], size: int) -> Iterator[Extent]:
    end = 0
    for extent in changed:
        if extent.offset < end or extent.length < 0 or extent.end > size:
            raise InvalidArgument(f"changed extent {extent} is out of order or outside of the volume")
        end = extent.end
        yield Extent(extent.offset, extent.length)


def _by_window(
    extents: Iterable[Extent], window_size: int, border: int
) -> Iterator[tuple[int, Iterator[Extent]]]:
    """Group sorted extents by the window that they lie in; stop at `border`."""
    pieces = takewhile(lambda piece: piece.offset < border, split(extents, window_size))
    return groupby(pieces, key=lambda piece: piece.offset // window_size * window_size)


def changed_granules(old: bytes | None, new: bytes | bytearray) -> list[int]:
    """Return the indices of granules whose hashes differ; all that are not zero if `old` is None."""
    count = len(new) // HASH
    if old is None:
        old = ZERO * count
    return [i for i in range(count) if old[i * HASH : (i + 1) * HASH] != new[i * HASH : (i + 1) * HASH]]


def store_whole(layers: int, changed: int, data: int) -> bool:
    """Tell whether a window is stored whole and not as one more layer.

    Args:
        layers: parts that it has already.
        changed: granules that differ.
        data: granules that are not zero.
    """
    return layers in (0, MAX_LAYERS) or 2 * changed > data
