"""One call of one thread, from the frame that starts it to the one that answers it.

Whoever waits also does what the host asks on behalf of the call (the next bytes of a body), tells it
that the call was cancelled, and notices that the host has died.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from queue import Empty
from typing import Any

from ...core.spi import DEFAULT_TIMEOUT, Call, Outcome, Unavailable
from .connection import Connection
from .failures import NotReturned, decode_error
from .frames import Frame, FrameTooLarge
from .lent import Lent
from .wire import NotCarried, decode, encode

POLL = 0.05
"""Seconds until a cancelled call or the end of a host is noticed at the latest."""


def request(connection: Connection, op: str, *, seconds: float, **fields: object) -> Any:
    """Have the host itself do something within so many seconds, and return its answer.

    Raises:
        Exception: what it raised there; `Unavailable` when the host is dead, or has not answered in time.
    """
    return Exchange(connection, None, seconds).run({"op": op, **fields}).header["value"]


def call_method(
    connection: Connection, method: str, arguments: tuple[Any, ...], options: Mapping[str, Any]
) -> Any:
    """Call a method of the driver.

    Raises:
        Exception: what the driver raised; `Unavailable` when the host is dead.
        NotCarried: an argument is nothing that the SPI speaks of; nothing was sent.
    """
    call = next((v for v in (*arguments, *options.values()) if isinstance(v, Call)), None)
    lent = Lent()
    try:
        given = encode((arguments, dict(options)), lent.lend)
    except RecursionError as error:
        raise NotCarried(f"an argument of {method}: it is too deeply nested") from error
    exchange = Exchange(connection, call, DEFAULT_TIMEOUT, lent)
    header = {"op": "call", "method": method, "arguments": given, "lane": connection.lane()}
    frame = exchange.run(header)
    return HostedStream(exchange) if frame.op == "stream" else decode(frame.header["value"])


class Exchange:
    """One call; it goes on while the stream that it returned is read.

    Args:
        connection: to the host.
        call: gives deadline, cancellation and progress.
        seconds: how long it may last if there is no call.
        lent: what its arguments have lent.
    """

    def __init__(
        self, connection: Connection, call: Call | None, seconds: float, lent: Lent | None = None
    ) -> None:
        self.connection = connection
        self.call = call
        self.lent = lent or Lent()
        self.number, self._frames = connection.opened()
        self._seconds = seconds
        self._cancelled = False

    def run(self, header: Mapping[str, Any]) -> Frame:
        """Send a frame and return what answers it.

        Raises:
            Exception: what the driver raised, or `Unavailable` when its host is dead.
        """
        keep = False
        try:
            try:
                self.connection.send({**header, "id": self.number})
            except FrameTooLarge as error:
                raise NotCarried(f"the arguments of {header.get('method')}: {error}") from error
            frame = self._answered()
            if frame.op == "failed":
                raise self._failure(frame.header["error"])
            keep = frame.op == "stream" or (frame.op == "items" and bool(frame.header["n"]))
        finally:
            if not keep:
                self.connection.close_exchange(self.number)
        return frame

    def _answered(self) -> Frame:
        latest = self._latest()
        try:
            while True:
                self._pass_on_cancel()
                try:
                    frame = self._frames.get(timeout=POLL)
                except Empty:
                    self._watch(latest)
                    continue
                if self._is_answer(frame):
                    return frame
        except BaseException:  # Ctrl-C, or the suite's own progress sink failed: nobody waits any more
            self._tell_cancelled()
            self.connection.leave_lane()
            raise

    def _is_answer(self, frame: Frame) -> bool:
        """Do what a frame asks; tell whether it is the answer."""
        if frame.op == "dead":
            raise self._dead()
        if frame.op == "progress":
            if self.call is not None:
                self.call.progress(*decode(frame.header["args"]))
            return False
        if frame.op == "ask":
            self._answer(frame)
            return False
        return True

    def _answer(self, frame: Frame) -> None:
        reply = self.lent.answer(frame)
        try:
            self.connection.send(*reply)
        except Unavailable as error:
            raise self._dead() from error  # what is true of the answer is not true of the call
        raised = self.lent.raised.get(frame.header["ask"])
        if raised is not None and not isinstance(raised, Exception):
            raise raised

    def _failure(self, error: Any) -> BaseException:
        if "raised" in error:
            return self.lent.raised[error["raised"]]
        if "not_returned" in error:
            return NotReturned(error["not_returned"])
        return decode_error(error)

    def _dead(self) -> Unavailable:
        return Unavailable(f"the driver host is dead ({self.connection.ended()})", outcome=Outcome.UNKNOWN)

    def _pass_on_cancel(self) -> None:
        if self.call is not None and self.call.cancelled() and not self._cancelled:
            self._cancelled = True
            self._tell_cancelled()

    def _tell_cancelled(self) -> None:
        with suppress(Unavailable):  # its end is found by who waits
            self.connection.send({"op": "cancel", "id": self.number})

    def _watch(self, end: float) -> None:
        if self.connection.ended():
            raise self._dead()
        if time.monotonic() > end:
            self.connection.end()
            late = f"the driver did not return within {self.connection.patience:.0f} s after its deadline"
            raise Unavailable(f"{late}; its host was ended", outcome=Outcome.UNKNOWN)

    def _latest(self) -> float:
        """Return when a host that does not answer is ended, on the monotonic clock."""
        if self.call is None:
            return time.monotonic() + self._seconds + self.connection.patience
        if self.call.deadline is None:
            return float("inf")
        return time.monotonic() + self.call.deadline - self.call.clock() + self.connection.patience


class HostedStream:
    """An iterator whose items are made in the host; as a generator, it can be closed and is when lost."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._items: deque[Any] = deque()
        self._most = 1
        self._over = False

    def __iter__(self) -> HostedStream:
        return self

    def __next__(self) -> Any:
        if not self._items and not self._over:
            self._fetch()
        if not self._items:
            raise StopIteration
        return self._items.popleft()

    def close(self) -> None:
        """Close the driver's generator and wait for it; repeatable."""
        self._items.clear()
        if not self._over:
            self._over = True
            self._exchange.run({"op": "drop", "lane": self._exchange.connection.lane()})

    def _fetch(self) -> None:
        connection = self._exchange.connection
        self._over = True  # whatever is raised ends a stream
        frame = self._exchange.run({"op": "next", "most": self._most, "lane": connection.lane()})
        self._over = not frame.header["n"]
        # One by one at first: how long a driver takes for the first item is worth knowing.
        self._most = min(self._most * 2, 512)
        is_bytes = frame.header["n"] == "bytes"
        self._items.extend([frame.blob] if is_bytes else decode(frame.header["items"]))

    def __del__(self) -> None:
        if not self._over:
            self._exchange.connection.drop(self._exchange.number)
