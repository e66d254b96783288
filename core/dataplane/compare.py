"""Comparing two volumes, in parallel, reading only where at least one has data."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from ..spi.call import Progress
from ..spi.model import Extent, ExtentKind
from .api import BlockSource
from .extents import cover, overlay, split
from .parallel import CHUNK, Cancelled, Feed, never, no_progress
from .zero import fill_zeros

# Below malloc's mmap threshold: a larger copy would page-fault each time.
_STEP = 64 * 1024


class _Compare:
    """The least offset that any worker found to differ."""

    def __init__(self, feed: Feed[tuple[Extent, Extent]], a: BlockSource, b: BlockSource) -> None:
        self._feed = feed
        self._a = a
        self._b = b
        self._size = max(a.size, b.size)
        self._lock = threading.Lock()
        self.found: int | None = None

    def work(self) -> None:
        """Compare pieces until there are none or one differs.

        Pieces are handed out in order, so whoever finds a difference may stop the rest: everything
        before it is already in some worker's hands and will be looked at to its end.
        """
        with self._a.clone() as a, self._b.clone() as b:
            left, right = (memoryview(bytearray(min(CHUNK, self._size))) for _ in range(2))
            for x, y in self._feed:
                if ExtentKind.DATA in (x.kind, y.kind):
                    _load(a, x, left)
                    _load(b, y, right)
                    position = first_difference(left[: x.length], right[: x.length])
                    if position is not None:
                        self._note(x.offset + position)
                self._feed.done(x.length)

    def _note(self, offset: int) -> None:
        with self._lock:
            self.found = offset if self.found is None else min(self.found, offset)
        self._feed.stop()


def compare(
    a: BlockSource,
    b: BlockSource,
    *,
    workers: int = 4,
    progress: Progress = no_progress,
    cancelled: Cancelled = never,
) -> int | None:
    """Return the first offset where two volumes differ, or None.

    If one is larger, the smaller counts as zeros from its end on (as `qemu-img compare`).

    Args:
        a: one volume.
        b: the other; either may be a sink that is readable, too.
        workers: threads, each with its own clones; memory is 32 MiB for each.
        progress: `progress(done, total)` in bytes; total is the larger size.
        cancelled: asked before each piece.

    Raises:
        DeadlineExceeded: cancelled.
        StorageError: what either source raised first.
    """
    size = max(a.size, b.size)
    feed = Feed(_pieces(a, b, size), size, progress, cancelled)
    job = _Compare(feed, a, b)
    feed.run(job.work, workers)
    return job.found


def _pieces(a: BlockSource, b: BlockSource, size: int) -> Iterator[tuple[Extent, Extent]]:
    left, right = (cover(source.extents(0, source.size), 0, size) for source in (a, b))
    for x, y in overlay(left, right):
        if ExtentKind.DATA in (x.kind, y.kind):
            yield from zip(split([x], CHUNK), split([y], CHUNK), strict=True)
        else:
            yield x, y


def _load(source: BlockSource, extent: Extent, buffer: memoryview) -> None:
    part = buffer[: extent.length]
    if extent.kind is ExtentKind.DATA:
        source.read_into(extent.offset, part)
    else:
        fill_zeros(part)


def first_difference(a: memoryview, b: memoryview) -> int | None:
    """Return the first position where two buffers of one length differ, or None."""
    for start in range(0, len(a), _STEP):
        # A bytearray on the left is compared by memcmp; two memoryviews are 36 times slower.
        x, y = bytearray(a[start : start + _STEP]), b[start : start + _STEP]
        if x != y:
            return start + next(i for i, (p, q) in enumerate(zip(x, y, strict=True)) if p != q)
    return None
