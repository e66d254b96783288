"""Whether a failed attempt is made again, and when."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from ..spi.errors import Outcome, StorageError


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Back-off of a job's attempts; those inside of an attempt are the driver calls' own (`core.invoke`).

    Attributes:
        attempts: at most; a worker's death counts as well, or a job that kills its worker would kill all.
        first: seconds before the second attempt; each further wait is twice as long.
        longest: seconds between attempts at most.
        jitter: gives a number from 0 to 1; half of the wait is random, so that jobs that failed together do
            not come back together.
    """

    attempts: int = 5
    first: float = 2.0
    longest: float = 300.0
    jitter: Callable[[], float] = random.random

    def wait(self, error: StorageError, attempts: int) -> float | None:
        """Return the seconds to wait after the attempt number `attempts`; None: it stays failed.

        What has been applied is not done again: only looking at it tells what is wrong.
        """
        if not error.retryable or error.outcome is Outcome.APPLIED or attempts >= self.attempts:
            return None
        pause = min(self.longest, self.first * 2.0 ** min(attempts - 1, 32))
        return max(pause * (0.5 + self.jitter() / 2), error.retry_after or 0.0)
