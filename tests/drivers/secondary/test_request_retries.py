"""When a single request is repeated, how long that may take, and what is known afterwards."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from bollard.core.spi import (
    Busy,
    Call,
    Conflict,
    DeadlineExceeded,
    NotFound,
    Outcome,
    StorageError,
    Unavailable,
)
from bollard.drivers.secondary._retry import repeated


def answers(*errors: StorageError) -> Callable[[], str]:
    """Return a request that fails so many times, then succeeds."""
    left = list(errors)

    def act() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return act


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-off is drawn from milliseconds here."""
    monkeypatch.setattr("bollard.drivers.secondary._retry._backoff", lambda _: 0.001)


def test_what_passes_by_itself_is_repeated() -> None:
    """Busy and Unavailable are, as often as allowed and not once more."""
    assert repeated(answers(Busy("1"), Unavailable("2")), Call(), 3) == "done"
    with pytest.raises(Unavailable, match="2"):
        repeated(answers(Busy("1"), Unavailable("2")), Call(), 2)


@pytest.mark.parametrize("error", [NotFound("x"), Conflict("x"), DeadlineExceeded("x")])
def test_what_does_not_is_raised_at_once(error: StorageError) -> None:
    """Refusals and a passed deadline are not repeated."""
    with pytest.raises(type(error)):
        repeated(answers(error), Call(), 5)


def test_doubt_remains() -> None:
    """After an attempt of unknown outcome, a later refusal doesn't mean that nothing was applied."""
    with pytest.raises(NotFound) as caught:
        repeated(answers(Unavailable("lost"), NotFound("x")), Call(), 5)
    assert caught.value.outcome is Outcome.UNKNOWN
    with pytest.raises(NotFound) as caught:
        repeated(answers(Busy("later"), NotFound("x")), Call(), 5)
    assert caught.value.outcome is Outcome.NOT_APPLIED


def test_a_wait_beyond_the_deadline_is_not_begun() -> None:
    """A server that asks for an hour gets its error passed on now."""
    begun = time.monotonic()
    with pytest.raises(Busy):
        repeated(answers(Busy("x", retry_after=3600)), Call.within(20), 5)
    assert time.monotonic() - begun < 10


def test_cancelling_ends_the_wait() -> None:
    """The flag interrupts a long wait; what an earlier attempt did stays unknown."""
    call = Call()
    threading.Timer(0.05, call.cancel.set).start()
    with pytest.raises(DeadlineExceeded) as caught:
        repeated(answers(Unavailable("x", retry_after=3600)), call, 5)
    assert caught.value.outcome is Outcome.UNKNOWN
