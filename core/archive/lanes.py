"""Connections to one volume with buffers, lent to workers; all buffers together stay within a budget.

    lane 1  [#### window, 64 MiB ####################################]   busy: takes what it needs
    lane 2  [##  #   #      ]                                            busy: a sparse window, 3 MiB
    lane 3  [               ]                                            waits until its need fits

A buffer is as long as a window, but only what is read into it takes memory: pages come when they are touched,
stay for the next window, and are given back when the budget is needed elsewhere.
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Generic, Self, TypeVar

from ..dataplane.api import BlockSink, BlockSource

C = TypeVar("C", BlockSource, BlockSink)


class Lane(Generic[C]):
    """A connection and a buffer of one window, for one worker at a time.

    Args:
        size: of the buffer in bytes; 0: none.
    """

    def __init__(self, connection: C, size: int) -> None:
        self.connection: C = connection
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS  # pages of a shared mapping cannot be given back
        self._pages = mmap.mmap(-1, size, flags=flags) if size else None
        self.buffer = memoryview(self._pages) if self._pages else memoryview(b"")
        self.resident = 0

    def drop(self, start: int, stop: int) -> None:
        """Give back the memory of whole pages in a part of the buffer; it reads as zeros then."""
        first, last = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, stop // mmap.PAGESIZE * mmap.PAGESIZE
        if self._pages and first < last:
            self._pages.madvise(mmap.MADV_DONTNEED, first, last - first)

    def drop_all(self) -> None:
        """Give back all memory of the buffer."""
        if self._pages:
            self._pages.madvise(mmap.MADV_DONTNEED)
        self.resident = 0


class Lanes(Generic[C]):
    """So many connections to one volume, with their buffers.

    The clones are made here, at once: the volume's own connection stays with the caller's thread,
    which reads extents from it while the workers run.

    Args:
        budget: bytes of memory for all buffers; a window that needs more goes alone.
    """

    def __init__(self, connection: C, count: int, buffer_size: int = 0, budget: int = 0) -> None:
        self._budget = budget
        self._held = 0
        self.peak = 0
        """The most memory, in bytes, that all buffers took."""
        self._free: list[Lane[C]] = []
        self._turn = threading.Lock()
        self._changed = threading.Condition()
        self._stack = ExitStack()
        with self._stack:
            for _ in range(count):
                clone = self._stack.enter_context(connection.clone())
                self._free.append(Lane(clone, buffer_size))
            self._stack = self._stack.pop_all()

    @contextmanager
    def take(self, need: int = 0) -> Iterator[Lane[C]]:
        """Lend a lane of which at most `need` bytes are touched; waits until that fits."""
        with self._turn:  # first come, first served: nobody overtakes a large window for ever
            lane = self._wait(need)
        try:
            yield lane
        finally:
            with self._changed:
                self._held -= lane.resident
                self._free.append(lane)
                self._changed.notify()

    def would_fit(self, need: int) -> bool:
        """Tell whether a lane would be lent at once."""
        return bool(self._free) and (not self._held or self._held + need <= self._budget)

    def _wait(self, need: int) -> Lane[C]:
        with self._changed:
            while not self.would_fit(need):
                self._changed.wait()
            lane = self._choose(need)
            self._free.remove(lane)
            lane.resident = need
            self._held += need
            for idle in self._free:
                if self._all() > self._budget:
                    idle.drop_all()
            self.peak = max(self.peak, self._all())
            return lane

    def _choose(self, need: int) -> Lane[C]:
        """Return the free lane that has the most of the memory that is needed, and no more."""
        small = [lane for lane in self._free if lane.resident <= need]
        if small:
            return max(small, key=lambda lane: lane.resident)
        lane = min(self._free, key=lambda lane: lane.resident)
        lane.drop_all()
        return lane

    def _all(self) -> int:
        """Return the bytes that all buffers take."""
        return self._held + sum(lane.resident for lane in self._free)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
