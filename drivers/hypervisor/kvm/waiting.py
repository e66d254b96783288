"""Waiting for a host, within the deadline of the call."""

from __future__ import annotations

import time
from collections.abc import Callable

from ....core.spi import Call, DeadlineExceeded, Outcome, StorageError

_FIRST, _LONGEST = 0.01, 0.25  # seconds between two looks


def goes_on(error: StorageError) -> bool:
    """Tell whether the host may still be at what a late or cancelled call left: a repeat finds its end."""
    return isinstance(error, DeadlineExceeded) and error.outcome is Outcome.UNKNOWN


def wait_until(
    true: Callable[[], bool], call: Call, what: str, *, outcome: Outcome = Outcome.UNKNOWN
) -> None:
    """Look until something is true.

    Args:
        true: looks.
        call: the deadline.
        what: what did not happen, for the message.
        outcome: what is known if it does not become true in time.

    Raises:
        DeadlineExceeded: it did not.
    """
    pause = _FIRST
    while not true():
        try:
            call.check()
        except DeadlineExceeded as error:
            raise DeadlineExceeded(f"{what}: {error.message}", outcome=outcome) from error
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST)
