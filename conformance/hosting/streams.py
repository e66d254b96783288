"""An iterator of the driver's, handed over in batches that the consumer asks for one by one."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from .frames import PIECE, Buffer

_BATCH_SECONDS = 0.02  # an extent that is there waits no longer for the next one
_BATCH_ITEMS = 512
_END = object()


class Stream:
    """What `get` or `changed` returned. Nothing is read ahead of the batch that was asked for."""

    def __init__(self, method: str, items: Iterator[Any]) -> None:
        self.method = method
        self._items = items
        self._held: deque[Any] = deque()
        self._failed: BaseException | None = None

    def batch(self, most: int) -> tuple[list[Any], list[Buffer]]:
        """Return up to `most` values, or one piece of bytes; neither at the end."""
        first = self._take()
        if first is _END:
            return [], []
        if isinstance(first, Buffer):
            return [], [first]
        values, until = [first], time.monotonic() + _BATCH_SECONDS
        while len(values) < min(most, _BATCH_ITEMS) and time.monotonic() < until:
            try:
                value = self._take()
            except BaseException as error:  # noqa: BLE001 - raised by the next batch: what came before it counts
                self._failed = error
                break
            if value is _END or isinstance(value, Buffer):
                self._held.append(value)
                break
            values.append(value)
        return values, []

    def close(self) -> None:
        """Close the driver's generator, if it is one."""
        close = getattr(self._items, "close", None)
        if close is not None:
            close()

    def _take(self) -> Any:
        if self._held:
            return self._held.popleft()
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise failed
        item = next(self._items, _END)
        if isinstance(item, Buffer) and memoryview(item).nbytes > PIECE:
            view = memoryview(item).cast("B")
            self._held.extend(view[at : at + PIECE] for at in range(PIECE, len(view), PIECE))
            return view[:PIECE]
        return item
