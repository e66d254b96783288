"""One operation per object at a time, within this process.

Two threads that snapshot and resize one volume would race inside the driver; arrays answer with
anything from "busy" to silence. The lock is per object id, so different volumes run in parallel.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from .spi import Busy, Call


class ObjectLocks:
    """Named locks that exist only while somebody holds or awaits them."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, tuple[threading.Lock, int]] = {}

    @contextmanager
    def holding(self, keys: tuple[str, ...], call: Call) -> Iterator[None]:
        """Hold the locks of `keys` (in sorted order, so that two calls cannot deadlock).

        Raises:
            Busy: when one was not free before the call's deadline.
        """
        with ExitStack() as stack:
            for key in sorted(set(keys)):
                stack.enter_context(self._one(key, call))
            yield

    @contextmanager
    def _one(self, key: str, call: Call) -> Iterator[None]:
        lock = self._enter(key)
        try:
            if not lock.acquire(timeout=call.remaining()):
                raise Busy(f"another operation on {key!r} is still running")
            try:
                yield
            finally:
                lock.release()
        finally:
            self._leave(key)

    def _enter(self, key: str) -> threading.Lock:
        with self._guard:
            lock, users = self._locks.get(key, (threading.Lock(), 0))
            self._locks[key] = (lock, users + 1)
            return lock

    def _leave(self, key: str) -> None:
        with self._guard:
            lock, users = self._locks[key]
            if users == 1:
                del self._locks[key]
            else:
                self._locks[key] = (lock, users - 1)
