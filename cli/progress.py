"""Progress for programs: one JSON object per line, with rate and time left.

    {"progress": "archiving vol-1/monday", "done": 1048576, "total": 8388608, "unit": "bytes",
     "seconds": 2.1, "rate": 524288.0, "eta": 14.0, "state": "running"}

The last line of each piece of work has the state "done", "failed" or "interrupted". A reader that has gone
away does not stop the work.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

_EVERY = 0.5  # seconds between two lines
_WINDOW = 20.0  # seconds that the rate looks back: steady, and still honest after a pause


class Rate:
    """Figures per second over the last seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque([(clock(), 0)])

    def per_second(self, done: int) -> float:
        """Note what is done by now and return the rate."""
        now = self._clock()
        if done < self._seen[-1][1]:  # another phase of the work begins at nothing again
            self._seen = deque([(now, done)])
        self._seen.append((now, done))
        while len(self._seen) > 2 and self._seen[0][0] < now - _WINDOW:
            self._seen.popleft()
        since, before = self._seen[0]
        return (done - before) / (now - since) if now > since else 0.0


class Lines:
    """Writes the lines of one piece of work; called with what is done and what there is in all."""

    def __init__(
        self, stream: TextIO, title: str, unit: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream
        self._head = {"progress": title}
        self._unit = unit
        self._clock = clock
        self._began = clock()
        self._rate = Rate(clock)
        self._written = -_EVERY
        self._done = self._total = 0

    def __call__(self, done: int, total: int) -> None:
        """Note progress; a line is written twice a second."""
        self._done, self._total = done, total
        if self._clock() - self._written >= _EVERY:
            self._write("running")

    def end(self, state: str) -> None:
        """Write the last line."""
        self._write(state)

    def _write(self, state: str) -> None:
        self._written = self._clock()
        rate = self._rate.per_second(self._done)
        left = (self._total - self._done) / rate if rate else None
        body = {
            "done": self._done,
            "total": self._total,
            "unit": self._unit,
            "seconds": round(self._written - self._began, 3),
            "rate": round(rate, 1),
            "eta": None if left is None else round(left, 1),
            "state": state,
        }
        try:
            self._stream.write(json.dumps(self._head | body) + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # the pipe is broken or closed: nobody wants to know any more
            self._written = float("inf")


@contextmanager
def lines(stream: TextIO, title: str, unit: str) -> Iterator[Lines]:
    """Yield what writes the lines; says at the end how the work ended."""
    writer = Lines(stream, title, unit)
    try:
        yield writer
    except KeyboardInterrupt:
        writer.end("interrupted")
        raise
    except BaseException:
        writer.end("failed")
        raise
    writer.end("done")
