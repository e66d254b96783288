"""QoS maxima: requests of a volume are spaced out so that IOPS and bandwidth stay below their limits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping


class Limiter:
    """The pace of one volume, over all of its connections; unlimited until :meth:`set`.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at = 0.0
        self._per_request = 0.0
        self._per_byte = 0.0

    def set(self, qos: Mapping[str, int | None]) -> None:
        """Take the maxima of a volume's QoS; requests that wait already keep their turn."""
        iops, bandwidth = qos.get("max_iops"), qos.get("max_bandwidth")
        with self._lock:
            self._per_request = 1 / iops if iops else 0.0
            self._per_byte = 1 / bandwidth if bandwidth else 0.0

    def wait(self, length: int) -> float:
        """Seconds that a request of ``length`` bytes has to wait for its turn."""
        with self._lock:
            cost = max(self._per_request, length * self._per_byte)
            start = max(self._clock(), self._free_at)
            self._free_at = start + cost
            return start - self._clock() if cost else 0.0
