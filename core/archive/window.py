"""One window on its way into the archive: read what may have changed, hash it, decide, build the part.

granule      0    1    2    3    4    5
old hashes   A    B    -    C    C    -        of the parent (HASHES of its newest part)
may differ        x    x    x                  the task's ranges; nothing else is read
new hashes   A    B'   D    -    C    -        -> delta: 1 and 2 data (one frame), 3 zero
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

from ..dataplane.api import BlockSource
from ..dataplane.extents import align
from ..spi.call import Call
from ..spi.model import ExtentKind
from .build import Builder
from .digest import HASH, ZERO, granule_hash, window_digest
from .part import MAX_FRAME, Member, Region
from .pieces import Joined
from .plan import Task, changed_granules, store_whole

# Reading so many bytes costs no more than to ask whether they are empty: one request over NBD.
_JUST_READ = 256 * 1024


class Content(NamedTuple):
    """What is to be stored of a window.

    `digest` is None if it is all zero: then it needs no parts at all. `part` is None if nothing changed.
    `whole` says that `part` replaces all layers that there are.
    """

    digest: str | None
    part: Joined | None
    whole: bool


class Outgrown(Exception):
    """A window of which only some ranges were to be read must be read as a whole."""


class WindowReader:
    """A window in a worker's buffer.

    Args:
        source: read from here; belongs to this worker.
        buffer: at least as long as the window; must not be touched until the part is stored.
        region: the window.
        call: looked at between reads.
    """

    def __init__(self, source: BlockSource, buffer: memoryview, region: Region, call: Call) -> None:
        self._source = source
        self._buffer = buffer
        self._region = region
        self._call = call
        self._examined = bytearray(region.granules)
        self.hashes = bytearray(region.granules * HASH)

    def assume(self, hashes: bytes) -> None:
        """Take over the hashes of the parent for what will not be read."""
        self.hashes[:] = hashes

    def examine(self, offset: int, length: int, *, ask: bool = True) -> None:
        """Read and hash a range of the volume, aligned to granules; what has been read is skipped.

        Args:
            ask: the source for its extents first, and do not read what is empty.
        """
        granule = self._region.granule
        first = (offset - self._region.offset) // granule
        indices = range(first, first + -(-length // granule))
        for fresh, run in groupby(indices, key=lambda i: not self._examined[i]):
            if fresh:
                self._examine_run(list(run), ask=ask)

    def _examine_run(self, run: list[int], *, ask: bool) -> None:
        start, end = self._position(run[0]), self._position(run[-1] + 1)
        self.hashes[run[0] * HASH : (run[-1] + 1) * HASH] = ZERO * len(run)
        self._examined[run[0] : run[-1] + 1] = b"\1" * len(run)
        if not ask:
            self._read(start, end)
            return
        base = self._region.offset
        extents = self._source.extents(base + start, end - start)
        limit = base + self._region.length
        for extent in align((e for e in extents if e.kind is ExtentKind.DATA), self._region.granule, limit):
            self._read(extent.offset - base, extent.end - base)

    def _read(self, start: int, end: int) -> None:
        """Read and hash positions of the window, one frame's worth after the other."""
        for begin, stop in _steps(start, end):
            self._call.check()
            self._source.read_into(self._region.offset + begin, self._buffer[begin:stop])
            self._hash(begin, stop)

    def _hash(self, start: int, end: int) -> None:
        granule = self._region.granule
        for begin in range(start, end, granule):
            i = begin // granule
            self.hashes[i * HASH : (i + 1) * HASH] = granule_hash(
                self._buffer[begin : min(begin + granule, end)], granule
            )

    def stream(self) -> Iterator[Member]:
        """Read the whole window and yield its frames, each as soon as it was read and hashed."""
        self._examined[:] = b"\1" * len(self._examined)
        region = self._region
        extents = self._source.extents(region.offset, region.length)
        data = align(
            (e for e in extents if e.kind is ExtentKind.DATA), region.granule, region.offset + region.length
        )
        finished = 0
        for extent in data:
            for begin, stop in _steps(extent.offset - region.offset, extent.end - region.offset):
                # A frame is complete when the next one begins: two extents may lie in one.
                if begin // MAX_FRAME > finished:
                    yield from self._frames(finished, begin // MAX_FRAME)
                    finished = begin // MAX_FRAME
                self._read(begin, stop)
        yield from self._frames(finished, -(-region.length // MAX_FRAME))

    def _frames(self, first: int, last: int) -> Iterator[Member]:
        per_frame = MAX_FRAME // self._region.granule
        granules = range(first * per_frame, min(last * per_frame, self._region.granules))
        return self.members(granules, zeros=False)

    def members(self, granules: Iterable[int], *, zeros: bool) -> Iterator[Member]:
        """Yield these granules as frames of data, and with `zeros` the empty ones as ranges of zeros.

        Frames end at multiples of `MAX_FRAME`: what they hold depends on the content alone, not on how
        it was read.
        """
        for run in _runs(granules, self._is_zero):
            start, end = self._position(run[0]), self._position(run[-1] + 1)
            if self._is_zero(run[0]):
                if zeros:
                    yield Member(self._region.offset + start, end - start, None)
                continue
            for begin, stop in _steps(start, end):
                yield Member(self._region.offset + begin, stop - begin, self._buffer[begin:stop])

    def data_granules(self) -> int:
        """Return how many granules are not zero."""
        return sum(not self._is_zero(i) for i in range(self._region.granules))

    def _is_zero(self, index: int) -> bool:
        return self.hashes[index * HASH : (index + 1) * HASH] == ZERO

    def _position(self, index: int) -> int:
        return min(index * self._region.granule, self._region.length)


def _steps(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Cut positions of a window at multiples of a frame."""
    while start < end:
        stop = min(end, (start // MAX_FRAME + 1) * MAX_FRAME)
        yield start, stop
        start = stop


def _runs(granules: Iterable[int], kind: Callable[[int], bool]) -> Iterator[list[int]]:
    """Split sorted indices into runs that are adjacent and of one kind."""
    run: list[int] = []
    for index in granules:
        if run and (index != run[-1] + 1 or kind(index) != kind(run[-1])):
            yield run
            run = []
        run.append(index)
    if run:
        yield run


def capture(
    reader: WindowReader, task: Task, fetch_old: Callable[[], bytes | None], build: Builder
) -> Content:
    """Find out what to store of a window.

    Args:
        fetch_old: returns the granule hashes of `task.base`; called only when they are needed.

    Raises:
        Outgrown: more must be read than the task's ranges.
    """
    if task.base is None:
        part = build.streamed(reader.stream(), reader.hashes)
        digest = window_digest(reader.hashes)
        return Content(digest, part if digest else None, whole=True)
    old = _examine(reader, task, fetch_old)
    digest = window_digest(reader.hashes)
    if digest is None or task.base.digest == digest:
        return Content(digest, None, whole=False)
    if task.ranges is None:
        old = fetch_old()
    changed = changed_granules(old, reader.hashes)
    whole = store_whole(len(task.base.parts) if old is not None else 0, len(changed), reader.data_granules())
    if whole and task.ranges is not None:
        raise Outgrown  # the driver may have missed a change: the rest is read, too, and what is read counts
    members = reader.members(range(len(reader.hashes) // HASH) if whole else changed, zeros=not whole)
    return Content(digest, build.at_once(members, reader.hashes), whole=whole)


def _examine(reader: WindowReader, task: Task, fetch_old: Callable[[], bytes | None]) -> bytes | None:
    """Read what the task says; return the parent's hashes if they were needed for it."""
    if task.ranges is None:
        reader.examine(task.offset, task.length)
        return None
    old = fetch_old()
    if old is None:
        raise Outgrown
    reader.assume(old)
    for offset, length in task.ranges:
        reader.examine(offset, length, ask=length > _JUST_READ)
    return old
