"""Results that many readers share: computed once at a time, kept until others need the room.

get(key) ──> kept? ──> running? ──> a thread works, every reader of this key waits for the same result
               |            |
               +── Future ──+       an error is told to those who wait, and not kept
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Shared(Generic[K, V]):
    """A bounded cache of futures.

    Args:
        executor: where results are computed.
        limit: sum of the costs that are kept; the least recently used go first.
        cost: of one result, such as its bytes.
    """

    def __init__(self, executor: Executor, limit: int, cost: Callable[[V], int] = lambda _: 1) -> None:
        self._executor = executor
        self._limit = limit
        self._cost = cost
        self._used = 0
        self._lock = threading.Lock()
        self._running: dict[K, Future[V]] = {}
        self._kept: OrderedDict[K, Future[V]] = OrderedDict()

    def get(self, key: K, work: Callable[[], V]) -> Future[V]:
        """Return the result of `work` for this key, or of whoever asked before; never waits."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            running = self._running.get(key)
            # One that failed stays here until its callback has run, and who waited for it is told before
            # that: a repeat within that instant got the old error (once, on a loaded machine).
            if running and not _failed(running):
                return running
            future = self._running[key] = self._executor.submit(work)
        future.add_done_callback(partial(self._finished, key))
        return future

    def _finished(self, key: K, future: Future[V]) -> None:
        with self._lock:
            if self._running.get(key) is future:  # a repeat may stand there already
                del self._running[key]
            if _failed(future):
                return
            self._kept[key] = future
            self._used += self._cost(future.result())
            while self._used > self._limit:
                _, oldest = self._kept.popitem(last=False)
                self._used -= self._cost(oldest.result())


def _failed(future: Future[V]) -> bool:
    return future.done() and (future.cancelled() or future.exception() is not None)
