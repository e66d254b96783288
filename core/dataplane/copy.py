"""Copying a volume, in parallel, sparse, in bounded memory.

source.extents ── pieces (<= 16 MiB of data) ──> 4 workers, each with its own clones
                                                   DATA  read, look for zeros, write
                                                   else  zero, unless the sink is known to be empty
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from ..spi.call import Progress
from ..spi.errors import InvalidArgument
from ..spi.model import Extent, ExtentKind
from .api import BlockSink, BlockSource
from .extents import split
from .parallel import CHUNK, Cancelled, Feed, never, no_progress
from .zero import runs

# Holes cost no memory; so much at once that a 64 TiB hole is not a million requests, and small
# enough that cancelling and progress stay prompt where zeroing means writing.
_ZERO_CHUNK = 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyStats:
    """What a copy did, in bytes; the three add up to the size of the sink.

    Attributes:
        written: data that was read and written.
        zeroed: ranges made zero on the sink.
        skipped: ranges that are zero in the source and were known to be zero on the sink.
    """

    written: int
    zeroed: int
    skipped: int


class _Copy:
    """The counters and rules that the workers share."""

    def __init__(
        self, feed: Feed[Extent], source: BlockSource, sink: BlockSink, *, sink_is_zero: bool
    ) -> None:
        self._feed = feed
        self._source = source
        self._sink = sink
        self._sink_is_zero = sink_is_zero
        self._lock = threading.Lock()
        self.written = 0
        self.zeroed = 0

    def work(self) -> None:
        """Copy pieces until there are none."""
        with self._source.clone() as source, self._sink.clone() as sink:
            buffer = memoryview(bytearray(min(CHUNK, source.size)))
            for piece in self._feed:
                if piece.kind is ExtentKind.DATA:
                    part = buffer[: piece.length]
                    source.read_into(piece.offset, part)
                    for start, stop, zero in runs(part):
                        self._put(
                            sink, piece.offset + start, None if zero else part[start:stop], stop - start
                        )
                else:
                    self._put(sink, piece.offset, None, piece.length)
                self._feed.done(piece.length)

    def _put(self, sink: BlockSink, offset: int, data: memoryview | None, length: int) -> None:
        if data is None and self._sink_is_zero:
            return
        if data is None:
            sink.zero(offset, length)
        else:
            sink.write(offset, data)
        with self._lock:
            if data is None:
                self.zeroed += length
            else:
                self.written += length


def copy(
    source: BlockSource,
    sink: BlockSink,
    *,
    workers: int = 4,
    sink_is_zero: bool = False,
    progress: Progress = no_progress,
    cancelled: Cancelled = never,
) -> CopyStats:
    """Make `sink` equal to `source`; what the sink has behind reads as zeros. Flushed at the end.

    Args:
        source: what is read.
        sink: what is overwritten; at least as large.
        workers: threads, each with its own clones; memory is 16 MiB for each.
        sink_is_zero: the sink is new and reads as zeros, so zeros need not be written.
        progress: `progress(done, total)` in bytes, called from the workers one at a time.
        cancelled: asked before each piece.

    Raises:
        InvalidArgument: the sink is smaller than the source.
        DeadlineExceeded: cancelled, outcome unknown: the sink is half written.
        StorageError: what source or sink raised first.
    """
    if sink.size < source.size:
        raise InvalidArgument(f"the target has {sink.size} bytes, less than the {source.size} of the source")
    feed = Feed(_pieces(source, sink.size), sink.size, progress, cancelled)
    job = _Copy(feed, source, sink, sink_is_zero=sink_is_zero)
    feed.run(job.work, workers)
    sink.flush()
    skipped = sink.size - job.written - job.zeroed
    return CopyStats(written=job.written, zeroed=job.zeroed, skipped=skipped)


def _pieces(source: BlockSource, size: int) -> Iterator[Extent]:
    behind = Extent(source.size, size - source.size, ExtentKind.HOLE)
    for extent in chain(source.extents(0, source.size), [behind]):
        yield from split([extent], CHUNK if extent.kind is ExtentKind.DATA else _ZERO_CHUNK)
