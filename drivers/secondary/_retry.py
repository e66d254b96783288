"""Short retries of single requests: what a throttled or restarting store needs.

The clients' own retries are switched off: they know neither the deadline of the call nor the cancel flag,
and two layers multiply (botocore's five times four of ours is a minute of hammering a full store).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from ...core.spi import Call, DeadlineExceeded, Outcome, StorageError

T = TypeVar("T")

_FIRST = 0.2
_LONGEST = 20.0
_backoff = wait_random_exponential(multiplier=_FIRST, max=_LONGEST)


def repeated(act: Callable[[], T], call: Call, attempts: int) -> T:
    """Run `act` until it succeeds, its error is not worth a retry, or attempts or time run out.

    Args:
        act: one request; must be safe to repeat.
        call: its deadline ends the waiting, its cancel flag interrupts it.
        attempts: how often to try in all.

    Raises:
        StorageError: the last one that `act` raised; of unknown outcome if that of any attempt was.
    """
    doubt = Outcome.NOT_APPLIED

    def attempt() -> T:
        nonlocal doubt
        try:
            return act()
        except StorageError as error:
            if Outcome.UNKNOWN in (doubt, error.outcome):
                doubt = error.outcome = Outcome.UNKNOWN
            raise

    def no_time(state: RetryCallState) -> bool:
        return call.deadline is not None and call.clock() + state.upcoming_sleep >= call.deadline

    def sleep(seconds: float) -> None:
        call.cancel.wait(seconds)
        call.check(doubt)

    retrying = Retrying(
        retry=retry_if_exception(_passes_by_itself),
        wait=_wait,
        stop=lambda state: no_time(state) or stop_after_attempt(attempts)(state),
        sleep=sleep,
        reraise=True,
    )
    return retrying(attempt)


def _passes_by_itself(error: BaseException) -> bool:
    return isinstance(error, StorageError) and error.retryable and not isinstance(error, DeadlineExceeded)


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    asked = error.retry_after if isinstance(error, StorageError) else None
    return max(asked or 0.0, _backoff(state))
