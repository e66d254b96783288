"""Who may hand out a task next: round robin over pools and tenants, first come first served within one.

    pool a   [job 1] [job 2] [job 3]  ─┐
    pool b   [job 9]                  ─┼─ in turn ─> a slot, if the pool, the store and the engine have one
    pool c   (at its limit: passed over)

A job asks for one slot at a time and then stands at the end again: a huge volume with a thousand tasks
and a small one with a single task each get every second slot.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future

Keys = tuple[str, ...]


class Gate:
    """Counts tasks that are out; safe for threads.

    Args:
        total: how many may be out in all; asked each time, since workers come and go.
        limits: how many with a key, such as "pool:ssd-1"; a key that is not named here has no limit.
    """

    def __init__(self, total: Callable[[], int], limits: Mapping[str, int]) -> None:
        self._total = total
        self._limits = limits
        self._out: Counter[str] = Counter()
        self._count = 0
        self._waiting: dict[str, deque[tuple[Keys, Future[None]]]] = {}
        self._lock = threading.Lock()

    def ask(self, group: str, keys: Keys) -> Future[None]:
        """Ask for a slot; the future is done when it was granted, and is given back by `release`.

        Args:
            group: whose turn it is: groups take turns.
            keys: what the task counts against.
        """
        ticket: Future[None] = Future()
        with self._lock:
            self._waiting.setdefault(group, deque()).append((keys, ticket))
        self.look()
        return ticket

    def release(self, keys: Keys) -> None:
        """Give a slot back."""
        with self._lock:
            self._out.subtract(keys)
            self._count -= 1
        self.look()

    def look(self) -> None:
        """Grant what can be granted; called too when there may be more slots in all."""
        total = max(1, self._total())
        granted = []
        with self._lock:
            while self._count < total and (ticket := self._next()) is not None:
                granted.append(ticket)
        for ticket in granted:  # outside: whoever waits for it may call us at once
            ticket.set_result(None)

    def _next(self) -> Future[None] | None:
        """Take the first ticket of the first group that has one within its limits; that group goes last."""
        for group in list(self._waiting):
            queue = self._waiting[group]
            while queue:
                keys, ticket = queue[0]
                if not all(self._out[key] < self._limits.get(key, self._count + 1) for key in keys):
                    break
                queue.popleft()
                if ticket.set_running_or_notify_cancel():  # False: its job does not want it any more
                    self._out.update(keys)
                    self._count += 1
                    del self._waiting[group]
                    if queue:
                        self._waiting[group] = queue
                    return ticket
            if not queue:
                del self._waiting[group]
        return None
