"""How much of a store or pool one process may use: bytes per second, and calls at a time.

    [stores.nightly.limits]
    bandwidth = "100MiB"       per second, both directions together
    concurrency = 8            calls that its driver works on at a time

Whoever asks first is served first. A wait ends at once when its call is cancelled (one for a free slot
within a tenth of a second). Bandwidth is counted where the bytes are handed over: a body before each
attempt to send it, a download chunk by chunk; so an upload goes out in bursts of one part, and no server
sees a connection that drips. The limits are those of one opened store or pool in one process; two
processes have them twice, and share nothing.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from .dataplane import BlockSink, BlockSource
from .spi import Call, Extent, InvalidArgument

_SIZE = re.compile(r"(\d{1,15})([KMGT]iB)?")
_UNITS = {None: 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}

# What may go at once after a pause, and the piece in which a big transfer waits among others, in seconds
# of the bandwidth: short enough that a small one is not held up by a part of 64 MiB.
_PIECE = 0.25
_LOOK = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """`bandwidth` in bytes per second, `concurrency` in calls; None: as much as there is."""

    bandwidth: int | None = None
    concurrency: int | None = None

    def __post_init__(self) -> None:
        for name in ("bandwidth", "concurrency"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise InvalidArgument(f"{name} must be a number from 1 on, got {value!r}")

    @classmethod
    def parse(cls, options: Mapping[str, Any], where: str = "limits") -> Limits:
        """Return limits from plain values, bandwidth also as "100MiB".

        Raises:
            InvalidArgument: naming `where`, the key and the rule.
        """
        for key in options:
            if key not in ("bandwidth", "concurrency"):
                raise InvalidArgument(f"{where}: {key!r} is unknown; there are bandwidth and concurrency")
        try:
            return cls(bandwidth=_bytes(options.get("bandwidth")), concurrency=options.get("concurrency"))
        except InvalidArgument as error:
            raise InvalidArgument(f"{where}: {error.message}") from error


def _bytes(value: object) -> Any:
    """Return the bytes that "100MiB" means; numbers and nonsense as they are."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    return int(match[1]) * _UNITS[match[2]] if match else value


def _wait(seconds: float, call: Call) -> None:
    """Wait, or until the call is cancelled or over."""
    call.cancel.wait(min(seconds, call.remaining()))
    call.check()


class Throttle:
    """The limits at work: one for each opened store or pool, shared by all threads.

    Args:
        clock: seconds, ever growing.
        wait: waits so many seconds for a call, or raises what ends it.
    """

    def __init__(
        self,
        limits: Limits = Limits(),
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float, Call], None] = _wait,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._wait = wait
        self._guard = threading.Lock()
        self._paid_until = clock() - _PIECE
        self._free = limits.concurrency or 0
        self._queue: deque[threading.Event] = deque()
        self._mine = threading.local()

    @property
    def limits_bandwidth(self) -> bool:
        """Tell whether `spend` ever waits."""
        return self._limits.bandwidth is not None

    def spend(self, size: int, call: Call) -> None:
        """Wait until `size` more bytes may go.

        Raises:
            DeadlineExceeded: the call is over or was cancelled.
        """
        rate = self._limits.bandwidth
        if rate is None:
            return
        piece = max(1, int(rate * _PIECE))
        while size > 0:
            seconds = self._reserve(min(piece, size) / rate)
            size -= piece
            if seconds > 0:
                self._wait(seconds, call)

    def _reserve(self, cost: float) -> float:
        """Take the next `cost` seconds of the line; return how long it is until they have passed."""
        with self._guard:
            now = self._clock()
            self._paid_until = max(self._paid_until, now - _PIECE) + cost
            return self._paid_until - now

    @contextmanager
    def slot(self, call: Call) -> Iterator[None]:
        """Hold one of the slots. A thread that has one needs no second: a body may be read from a store.

        Raises:
            DeadlineExceeded: the call is over or was cancelled before one was free.
        """
        if self._limits.concurrency is None or getattr(self._mine, "slot", False):
            yield
            return
        self._enter(call)
        self._mine.slot = True
        try:
            yield
        finally:
            self._mine.slot = False
            self._leave()

    def _enter(self, call: Call) -> None:
        turn = threading.Event()
        with self._guard:
            if self._free and not self._queue:
                self._free -= 1
                return
            self._queue.append(turn)
        try:
            while not turn.wait(_LOOK):
                call.check()
        except BaseException:
            self._give_up(turn)
            raise

    def _give_up(self, turn: threading.Event) -> None:
        with self._guard:
            if turn in self._queue:
                self._queue.remove(turn)
                return
        self._leave()  # it had become ours in that moment

    def _leave(self) -> None:
        with self._guard:
            if self._queue:
                self._queue.popleft().set()
            else:
                self._free += 1

    def source(self, source: BlockSource, call: Call) -> BlockSource:
        """Return a source that reads no faster than this."""
        return _Slow(source, self, call) if self.limits_bandwidth else source

    def sink(self, sink: BlockSink, call: Call) -> BlockSink:
        """Return a sink that writes no faster than this; zeros are free."""
        return _Slow(sink, self, call) if self.limits_bandwidth else sink


class _Slow:
    """A source or sink (typed as both; each is used as what it is) that asks before it moves bytes."""

    def __init__(self, inner: Any, throttle: Throttle, call: Call) -> None:
        self._inner = inner
        self._throttle = throttle
        self._call = call

    @property
    def size(self) -> int:
        return int(self._inner.size)

    def clone(self) -> Self:
        return type(self)(self._inner.clone(), self._throttle, self._call)

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        extents: Iterator[Extent] = self._inner.extents(offset, length)
        return extents

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self._throttle.spend(len(buffer), self._call)
        self._inner.read_into(offset, buffer)

    def write(self, offset: int, data: memoryview | bytes) -> None:
        self._throttle.spend(len(data), self._call)
        self._inner.write(offset, data)

    def zero(self, offset: int, length: int) -> None:
        self._inner.zero(offset, length)

    def flush(self) -> None:
        self._inner.flush()

    def close(self) -> None:
        self._inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
