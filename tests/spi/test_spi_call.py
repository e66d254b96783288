"""A call knows its deadline and whether it was cancelled, on a clock that tests own."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bollard.core.spi import Call, DeadlineExceeded, Outcome


class FakeTime:
    """A clock that moves when told, or by `step` at each reading."""

    def __init__(self, now: float = 100.0, step: float = 0.0) -> None:
        self.now = now
        self.step = step

    def __call__(self) -> float:
        """The time."""
        self.now += self.step
        return self.now


@given(left=st.floats(0.001, 1e6), at_most=st.floats(0.001, 1e6))
def test_remaining_is_what_is_left_and_never_more_than_asked(left, at_most):
    """`remaining` is the smaller of the cap and the time to the deadline."""
    call = Call(deadline=100.0 + left, clock=FakeTime())

    assert call.remaining(at_most) == pytest.approx(min(left, at_most), abs=1e-6)


@given(step=st.floats(0.01, 10), start=st.floats(0, 20))
def test_remaining_is_positive_or_raises_on_a_moving_clock(step, start):
    """Time that passes between two looks at the clock never makes a negative timeout for a socket."""
    call = Call(deadline=10.0, clock=FakeTime(start, step))

    try:
        left = call.remaining()
    except DeadlineExceeded:
        return
    assert left > 0


@pytest.mark.parametrize("now", [100.0, 100.1, 1e9])
def test_deadline_passes_at_the_deadline(now):
    """At the deadline and after it `check` raises; the outcome is what the driver says it is."""
    call = Call(deadline=100.0, clock=FakeTime(now))

    with pytest.raises(DeadlineExceeded, match="deadline") as caught:
        call.check()
    assert caught.value.outcome is Outcome.NOT_APPLIED
    with pytest.raises(DeadlineExceeded) as caught:
        call.check(Outcome.UNKNOWN)
    assert caught.value.outcome is Outcome.UNKNOWN
    with pytest.raises(DeadlineExceeded) as caught:
        call.remaining()
    assert caught.value.outcome is Outcome.NOT_APPLIED
    with pytest.raises(DeadlineExceeded) as caught:
        call.remaining(outcome=Outcome.UNKNOWN)
    assert caught.value.outcome is Outcome.UNKNOWN


def test_before_the_deadline_nothing_happens():
    """One tick before the deadline a call goes on."""
    Call(deadline=100.0, clock=FakeTime(99.999)).check()


def test_no_deadline_means_the_cap():
    """A call without a deadline still gives sockets a finite timeout."""
    assert Call().remaining(5) == 5


def test_cancelled_call_stops_and_says_so():
    """Cancelling reaches `cancelled`, `check` and `remaining`, whatever the clock says."""
    call = Call(deadline=200.0, clock=FakeTime())
    assert not call.cancelled()

    call.cancel.set()

    assert call.cancelled()
    with pytest.raises(DeadlineExceeded, match="cancelled"):
        call.check()
    with pytest.raises(DeadlineExceeded, match="cancelled"):
        call.remaining()


def test_calls_share_nothing():
    """Each call has its own request id and its own cancel switch."""
    one, other = Call(), Call()
    one.cancel.set()

    assert one.request_id != other.request_id
    assert not other.cancelled()


def test_within_ends_that_many_seconds_from_now():
    """`Call.within` sets the deadline on the clock that it will be read on."""
    assert 9 < Call.within(10).remaining() <= 10


def test_log_lines_start_with_the_request_id(caplog):
    """One call can be followed with grep."""
    with caplog.at_level(logging.INFO, "bollard.driver"):
        Call(request_id="abc").log.info("made %s", "it")

    assert caplog.messages == ["[abc] made it"]
