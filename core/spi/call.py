"""What every SPI call is given: who asks, until when, and how to stop.

No globals and no thread-locals: a driver that needs the deadline has it in its hand.
"""

from __future__ import annotations

import logging
import math
import threading
import time
import uuid
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Self

from .errors import DeadlineExceeded, Outcome

Progress = Callable[[int, int], None]
Clock = Callable[[], float]

# Long enough for a clone on a slow array, short enough that a hung SDK is noticed the same night.
DEFAULT_TIMEOUT = 300.0


class _BoundLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger that puts the request id in front, so that one call can be followed by grep."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return f"[{(self.extra or {}).get('request_id')}] {msg}", kwargs


def _no_progress(done: int, total: int) -> None:
    """Default progress sink."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The context of one SPI call.

    Attributes:
        request_id: stable across retries of the same operation, so a backend may deduplicate on it.
        deadline: absolute time on `clock`, seconds; None means no limit (tests and tools only).
        cancel: set by the orchestrator; drivers look at it between external calls.
        progress: `progress(done, total)` in bytes or steps; cheap, may be called often.
    """

    request_id: str = field(default_factory=lambda: uuid.uuid4().hex[:16])
    deadline: float | None = None
    cancel: threading.Event = field(default_factory=threading.Event)
    progress: Progress = _no_progress
    clock: Clock = time.monotonic

    @classmethod
    def within(cls, seconds: float = DEFAULT_TIMEOUT, *, progress: Progress = _no_progress) -> Self:
        """Return a call that must end `seconds` from now."""
        return cls(deadline=time.monotonic() + seconds, progress=progress)

    @property
    def log(self) -> _BoundLogger:
        """A logger bound to the request id."""
        return _BoundLogger(logging.getLogger("bollard.driver"), {"request_id": self.request_id})

    def cancelled(self) -> bool:
        """Tell whether the orchestrator wants this call to stop."""
        return self.cancel.is_set()

    def remaining(self, at_most: float = 3600.0, *, outcome: Outcome = Outcome.NOT_APPLIED) -> float:
        """Return the seconds left, capped; what a driver passes to a socket or a subprocess.

        Args:
            at_most: seconds.
            outcome: what a driver that is part-way through knows about the backend.

        Raises:
            DeadlineExceeded: when nothing is left: the next step has not begun.
        """
        left = self._left()
        self._refuse(left, outcome)
        return min(at_most, left)

    def check(self, outcome: Outcome = Outcome.NOT_APPLIED) -> None:
        """Raise if the call was cancelled or its deadline has passed.

        Args:
            outcome: what a driver that is part-way through knows about the backend.

        Raises:
            DeadlineExceeded: naming which of the two it was.
        """
        self._refuse(self._left(), outcome)

    def _left(self) -> float:
        return math.inf if self.deadline is None else self.deadline - self.clock()

    def _refuse(self, left: float, outcome: Outcome) -> None:
        """Take `left` as read once: a second reading could turn it into a negative timeout."""
        if self.cancel.is_set():
            raise DeadlineExceeded("the call was cancelled", outcome=outcome)
        if left <= 0:
            raise DeadlineExceeded("the call's deadline has passed", outcome=outcome)
