"""Workers that take pieces from one iterator until it is empty or one of them fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Generic, TypeVar

from ..spi.call import Progress
from ..spi.errors import DeadlineExceeded, Outcome

T = TypeVar("T")
Cancelled = Callable[[], bool]

CHUNK = 16 * 1024 * 1024
"""Bytes that a worker holds at a time: 4 workers need 64 MiB whatever the size of the volume."""


def no_progress(done: int, total: int) -> None:
    """Default progress sink."""


def never() -> bool:
    """Default of `cancelled`."""
    return False


class Feed(Generic[T]):
    """Hands out the pieces, counts what is done, stops all when one fails.

    Args:
        pieces: taken in order, under a lock.
        total: bytes in all, for `progress`.
        progress: called under the lock after each piece.
        cancelled: asked before each piece.
    """

    def __init__(self, pieces: Iterator[T], total: int, progress: Progress, cancelled: Cancelled) -> None:
        self._pieces = pieces
        self._total = total
        self._progress = progress
        self._cancelled = cancelled
        self._lock = threading.Lock()
        self._done = 0
        self._stop = threading.Event()

    def __iter__(self) -> Iterator[T]:
        while not self._stop.is_set():
            if self._cancelled():
                raise DeadlineExceeded("the copy was cancelled", outcome=Outcome.UNKNOWN)
            with self._lock:
                try:
                    piece = next(self._pieces)
                except StopIteration:
                    return
            yield piece

    def done(self, length: int) -> None:
        """Count `length` bytes as done."""
        with self._lock:
            self._done += length
            self._progress(self._done, self._total)

    def stop(self) -> None:
        """Let every worker end after its piece."""
        self._stop.set()

    def run(self, worker: Callable[[], None], workers: int) -> None:
        """Run `worker` on so many threads; the first error stops the others and is raised."""

        def guarded() -> None:
            with self._stopping_on_error():
                worker()

        with ThreadPoolExecutor(workers, thread_name_prefix="dataplane") as pool, self._stopping_on_error():
            for future in [pool.submit(guarded) for _ in range(workers)]:
                future.result()

    @contextmanager
    def _stopping_on_error(self) -> Iterator[None]:
        fine = False
        try:
            yield
            fine = True
        finally:
            if not fine:
                self.stop()
