"""A catalog with jobs, and a clock that moves when it is told to."""

from __future__ import annotations

import pytest

from bollard.core.jobs import Claims, JobLimits, Orders, RetryPolicy


class Clock:
    """Seconds since 1970; stands still."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The time of all that the test makes."""
    return Clock()


@pytest.fixture
def orders(catalog, clock) -> Orders:
    """Where jobs are ordered."""
    return Orders(catalog, clock=clock)


@pytest.fixture
def claims(catalog, clock) -> Claims:
    """Where they are handed out: two per host, three per pool, a lease of a minute, three attempts."""
    retry = RetryPolicy(attempts=3, jitter=lambda: 1.0)
    return Claims(catalog, clock=clock, limits=JobLimits(per_host=2, per_pool=3), retry=retry)
