"""Watching a driver's extents while they stream: a wrong list of changes is silent data loss."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .spi import Extent, Internal


def checked_extents(extents: Iterable[Extent], size: int) -> Iterator[Extent]:
    """Yield `extents` as they come, as long as they are sorted, disjoint, non-empty and inside `size`.

    Raises:
        Internal: at the first one that is not; the increment must be abandoned, not repaired.
    """
    end = 0
    for extent in extents:
        if extent.offset < end or extent.length <= 0 or extent.end > size:
            raise Internal(
                f"the driver reported the extent {extent.offset}+{extent.length} after {end}"
                f" in a snapshot of {size} bytes: extents must be sorted, disjoint and inside"
            )
        end = extent.end
        yield extent
