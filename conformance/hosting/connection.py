"""The suite's end of the socket: many threads call, and each gets its own answers.

thread A ── call 1 ──┐                      ┌──> done 1, ask 1, progress 1 … to A's queue
thread B ── call 2 ──┴──> socket ── reader ─┴──> items 2 … to B's
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

from ...core.spi import Outcome, Unavailable
from .frames import BrokenFrame, Buffer, Channel, Frame
from .lent import Lent

_DEAD = Frame({"op": "dead"}, b"")


class Connection:
    """One host's calls.

    Args:
        channel: to the host.
        ended: returns how the host ended ("signal 9"), or "" while it runs.
        end: ends it, now; called when it overslept a deadline or sent rubbish.
        patience: seconds that a call may last beyond its deadline before its host is ended.
    """

    def __init__(
        self, channel: Channel, ended: Callable[[], str], end: Callable[[], None], patience: float
    ) -> None:
        self.channel = channel
        self.ended = ended
        self.patience = patience
        self.end = end
        self._numbers = itertools.count()
        self._lanes = itertools.count()
        self._open: dict[int, SimpleQueue[Frame]] = {}
        self._here = threading.local()
        # Lanes whose threads ended, streams that nobody holds any more. Filled by the garbage collector,
        # which may run while a frame is being sent, so it cannot send one itself.
        self._left: deque[Mapping[str, Any]] = deque()
        self._closed = False
        self._reader = threading.Thread(target=self._read, name="bollard-host-reader", daemon=True)
        self._reader.start()

    def lane(self) -> int:
        """Return the number of this thread's lane in the host."""
        lane: _Lane | None = getattr(self._here, "lane", None)
        if lane is None:
            lane = self._here.lane = _Lane(next(self._lanes), self._left)
        return lane.number

    def leave_lane(self) -> None:
        """Take another lane from now on: the host's thread may still be busy with what was given up."""
        self._here.lane = None

    def opened(self) -> tuple[int, SimpleQueue[Frame]]:
        """Return number and queue of a new exchange."""
        number, queue = next(self._numbers), SimpleQueue[Frame]()
        self._open[number] = queue
        return number, queue

    def close_exchange(self, number: int) -> None:
        """Forget an exchange; what the host still asks on its behalf is refused."""
        if queue := self._open.pop(number, None):
            with suppress(Empty):
                while True:
                    self._refuse(queue.get_nowait())

    def drop(self, number: int) -> None:
        """Have a stream closed with the next frame that goes out; safe for the garbage collector."""
        self._left.append({"op": "drop", "id": number, "lane": 0})
        self._open.pop(number, None)

    def send(self, header: Mapping[str, Any], *blobs: Buffer) -> None:
        """Send a frame, after what was left over.

        Raises:
            Unavailable: the host is dead, and did not get this frame.
        """
        if words := self.ended():
            raise Unavailable(f"the driver host is dead ({words})", outcome=Outcome.NOT_APPLIED)
        try:
            with suppress(IndexError):
                while True:
                    self.channel.send(self._left.popleft())
            self.channel.send(header, *blobs)
        except (OSError, BrokenFrame) as error:
            self.end()
            text = f"the driver host is dead ({self.ended()})"
            raise Unavailable(text, outcome=Outcome.NOT_APPLIED) from error

    def close(self) -> None:
        """Close the socket of a host that has ended."""
        if not self._closed:
            self._closed = True
            if threading.current_thread() is not self._reader:
                self._reader.join()
            self.channel.close()

    def _read(self) -> None:
        try:
            while (frame := self.channel.receive()) is not None:
                queue = self._open.get(frame.header["id"])
                if queue is None:
                    self._refuse(frame)
                else:
                    queue.put(frame)
        except (BrokenFrame, KeyError, TypeError, OSError):
            pass  # the driver wrote to our socket, or closed it: as good as dead
        self.end()
        for queue in list(self._open.values()):
            queue.put(_DEAD)

    def _refuse(self, frame: Frame) -> None:
        """Answer a question that nobody is there for: its call has ended, or was given up."""
        if frame.op == "ask":
            over = Unavailable("the call is over", outcome=Outcome.NOT_APPLIED)
            with suppress(Unavailable):
                self.send(Lent.refusal(frame, over))


class _Lane:
    """Kept by a thread of the suite, so that the host's thread ends with it."""

    def __init__(self, number: int, left: deque[Mapping[str, Any]]) -> None:
        self.number = number
        self._left = left

    def __del__(self) -> None:
        self._left.append({"op": "leave", "lane": self.number})
