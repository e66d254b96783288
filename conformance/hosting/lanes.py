"""The threads in which the host runs a driver: one for each thread that calls from the suite.

    suite                      host
    thread A ── lane 0 ──> main thread       what a driver keeps by thread (a session, a cursor) is found
    thread B ── lane 1 ──> another one       again at the next call, as if it were called directly

While a method waits for something on the suite's side (the next bytes of a body), its lane serves what
comes in meanwhile: the suite may call the same driver for those bytes.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from .failures import decode_error
from .frames import Channel, Frame
from .wire import Json, decode, encode

_PROGRESS_EVERY = 0.02  # seconds; a driver may tell its progress for each kilobyte

Handler = Callable[[Frame], None]
_numbers = itertools.count()


class Lane:
    """Frames for one thread, in order."""

    def __init__(self, handle: Handler) -> None:
        self.frames: SimpleQueue[Frame | None] = SimpleQueue()
        self._handle = handle

    def start(self) -> int:
        """Serve in a new thread; returns its native id."""
        thread = threading.Thread(target=self.serve, name="bollard-lane", daemon=True)
        thread.start()
        return thread.native_id or 0

    def serve(self) -> None:
        """Serve in this thread, until None arrives."""
        _here.lane = self
        while (frame := self.frames.get()) is not None:
            self._handle(frame)

    def answer(self, number: int) -> Frame:
        """Wait for the answer to a question; serve what comes before it."""
        while (frame := self.frames.get()) is not None:
            if frame.op == "answer" and frame.header["ask"] == number:
                return frame
            self._handle(frame)
        raise SystemExit  # the host ends


class _Here(threading.local):
    lane: Lane | None = None


_here = _Here()


class Questions:
    """What the host asks the suite, from whichever thread of the driver."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._waiting: dict[int, SimpleQueue[Frame | None]] = {}

    def ask(self, call: int, ref: int, what: str, *arguments: object) -> tuple[Any, bytes]:
        """Have the suite call a method of what it lent; returns its result and bytes.

        Raises:
            Exception: what it raised there; the suite knows it again if it comes back (`encode_raised`).
        """
        number, lane = next(_numbers), _here.lane
        queue = self._waiting[number] = SimpleQueue() if lane is None else lane.frames
        self._channel.send(
            {"op": "ask", "id": call, "ask": number, "ref": ref, "do": what, "args": encode(arguments)}
        )
        frame = _next(queue) if lane is None else lane.answer(number)
        if "error" in frame.header:
            error = _error_there(frame.header["error"])
            error._bollard_ask = number  # type: ignore[attr-defined]  # noqa: SLF001 - ours, see encode_raised
            raise error
        return decode(frame.header["value"]), frame.blob

    def route(self, frame: Frame) -> None:
        """Give an answer to the thread that waits for it."""
        queue = self._waiting.pop(frame.header["ask"], None)
        if queue is not None:
            queue.put(frame)


def _next(queue: SimpleQueue[Frame | None]) -> Frame:
    frame = queue.get()
    assert frame is not None  # only the queues of lanes are told to end
    return frame


def _error_there(data: Json) -> Exception:
    """Return what the suite's object raised; an OSError as one, for drivers that look for it."""
    if "errno" in data:
        return OSError(data["errno"], data["text"])
    return decode_error(data)


class Progress:
    """Passes on a call's progress, not more often than anybody can look at it."""

    def __init__(self, channel: Channel, call: int) -> None:
        self._channel = channel
        self._call = call
        self._latest: Json | None = None
        self._next = 0.0

    def __call__(self, done: int, total: int) -> None:
        """Take what the driver says."""
        self._latest = [encode(done), encode(total)]
        if time.monotonic() >= self._next:
            self.flush()

    def flush(self) -> None:
        """Send what was not sent yet."""
        latest, self._latest = self._latest, None
        if latest is not None:
            self._next = time.monotonic() + _PROGRESS_EVERY
            self._channel.send({"op": "progress", "id": self._call, "args": latest})
