"""Pure arithmetic on extents: merge, clip, cover, align, intersect, overlay.

Everything takes and yields *sorted, disjoint* extents lazily, so a 64 TiB volume costs no memory:

    merge      |DD|DD|--|HHH|        ->  |DDDD|--|HHH|          touching and equal become one
    clip       |DDDDDD|HHHHHH|       ->    |DDDD|HHH|           cut to a range
    cover      |DD|    |HH|          ->  |DD|gap |HH|gap|       no gaps left in a range
    align      |  D |     HHHHHHHH|  ->  |DDDD|DDDD|HHHH|       outwards to a granule, data wins
    intersect  |DDDDDDDDDDDDDDDDD|   ->    |DD|   |DDD|         cut to several windows
    overlay    a: |DDDD|HHHHHHHH|    ->  |DD|DH|HH|HD|          two covers, cut at every border
               b: |DD|HHHHH|DDDD|                (pairs)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..spi.model import Extent, ExtentKind

Window = tuple[int, int]
"""(offset, length) in bytes."""


def merge(extents: Iterable[Extent]) -> Iterator[Extent]:
    """Join touching extents of one kind; empty ones vanish."""
    pending: Extent | None = None
    for extent in extents:
        if not extent.length:
            continue
        if pending and pending.end == extent.offset and pending.kind is extent.kind:
            pending = Extent(pending.offset, pending.length + extent.length, extent.kind)
            continue
        if pending:
            yield pending
        pending = extent
    if pending:
        yield pending


def clip(extents: Iterable[Extent], offset: int, length: int) -> Iterator[Extent]:
    """Cut extents to [offset, offset + length) and stop reading behind it."""
    end = offset + length
    for extent in extents:
        if extent.offset >= end:
            return
        start, stop = max(extent.offset, offset), min(extent.end, end)
        if start < stop:
            yield Extent(start, stop - start, extent.kind)


def cover(
    extents: Iterable[Extent], offset: int, length: int, *, gap: ExtentKind = ExtentKind.HOLE
) -> Iterator[Extent]:
    """Clip to a range and fill what is between with extents of kind `gap`."""
    position, end = offset, offset + length
    for extent in clip(extents, offset, length):
        if extent.offset > position:
            yield Extent(position, extent.offset - position, gap)
        yield extent
        position = extent.end
    if position < end:
        yield Extent(position, end - position, gap)


def intersect(extents: Iterable[Extent], windows: Iterable[Window]) -> Iterator[Extent]:
    """Yield the parts of `extents` that lie in `windows` (sorted and disjoint as well)."""
    remaining = iter(windows)
    window = next(remaining, None)
    for extent in extents:
        while window and window[0] < extent.end:
            start, stop = max(extent.offset, window[0]), min(extent.end, sum(window))
            if start < stop:
                yield Extent(start, stop - start, extent.kind)
            if sum(window) > extent.end:
                break
            window = next(remaining, None)


def overlay(a: Iterable[Extent], b: Iterable[Extent]) -> Iterator[tuple[Extent, Extent]]:
    """Yield pairs of the same range from two covers of one range, cut wherever either changes.

    Ends with the shorter of the two.
    """
    right = iter(b)
    other = next(right, None)
    for extent in a:
        while other and other.offset < extent.end:
            start, stop = max(extent.offset, other.offset), min(extent.end, other.end)
            if start < stop:
                yield Extent(start, stop - start, extent.kind), Extent(start, stop - start, other.kind)
            if other.end > extent.end:
                break
            other = next(right, None)


def split(extents: Iterable[Extent], step: int) -> Iterator[Extent]:
    """Cut extents into pieces that do not cross multiples of `step` bytes."""
    for extent in extents:
        position = extent.offset
        while position < extent.end:
            stop = min(extent.end, (position // step + 1) * step)
            yield Extent(position, stop - position, extent.kind)
            position = stop


def align(extents: Iterable[Extent], granule: int, size: int) -> Iterator[Extent]:
    """Widen extents outwards to multiples of `granule`, within a volume of `size` bytes.

    A granule is HOLE or ZERO only if such extents cover all of it; one byte of DATA, or one byte
    that no extent speaks of, makes it DATA. So nothing that must be read is ever called empty.
    Granules that no extent touches are left out.
    """
    return merge(_aligned(extents, granule, size))


def _aligned(extents: Iterable[Extent], granule: int, size: int) -> Iterator[Extent]:
    pending: list[Extent] = []  # the parts of one granule that is not covered yet
    for part in _at_borders(clip(extents, 0, size), granule):
        if pending and part.offset // granule != pending[0].offset // granule:
            yield _whole_granule(pending, granule, size)
            pending = []
        if part.offset % granule == 0 and part.length >= granule:
            yield part
        else:
            pending.append(part)
    if pending:
        yield _whole_granule(pending, granule, size)


def _at_borders(extents: Iterable[Extent], granule: int) -> Iterator[Extent]:
    """Split each extent into its head, its aligned middle (however long) and its tail."""
    for extent in extents:
        position = extent.offset
        for border in (-(-extent.offset // granule) * granule, extent.end // granule * granule, extent.end):
            if position < (stop := min(border, extent.end)):
                yield Extent(position, stop - position, extent.kind)
                position = stop


def _whole_granule(parts: list[Extent], granule: int, size: int) -> Extent:
    start = parts[0].offset // granule * granule
    length = min(granule, size - start)
    kinds = {part.kind for part in parts}
    if ExtentKind.DATA in kinds or sum(part.length for part in parts) < length:
        return Extent(start, length, ExtentKind.DATA)
    return Extent(start, length, ExtentKind.ZERO if ExtentKind.ZERO in kinds else ExtentKind.HOLE)
