"""What a server forgets by age: jobs that are over, and events."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ..catalog import Catalog
from ..event_stream import EventStream
from ..jobs import Orders
from ..spi import StorageError

_log = logging.getLogger("bollard.pruning")

_EVERY = 3600.0
_SOON = 60.0
_STEPS = 100  # of 1000 jobs or 10,000 events; the rest waits for the next hour


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """For how many days what is kept; 0: for ever.

    Attributes:
        jobs: after their end. An idempotency key is forgotten with its job.
        events: whether or not all webhooks have them.
    """

    jobs: float = 30.0
    events: float = 30.0


class Pruning:
    """Forgets what is old; several servers on a catalog may do so at the same time."""

    def __init__(
        self,
        orders: Orders,
        stream: EventStream,
        keeping: Keeping,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._orders, self._stream, self._keeping = orders, stream, keeping
        self._now = now

    @classmethod
    def of(cls, catalog: Catalog, keeping: Keeping) -> Pruning:
        """Return what prunes a catalog."""
        return cls(Orders(catalog), EventStream(catalog), keeping)

    def round(self) -> float:
        """Prune, in small transactions; return the seconds until the next time."""
        try:
            jobs, events = self._jobs(), self._events()
        except StorageError as error:
            _log.warning("old jobs and events stay for now: %s", error)
            return _SOON
        if jobs or events:
            _log.info("forgot %d jobs and %d events", jobs, events)
        return _EVERY

    def _jobs(self) -> int:
        seconds, forgotten = self._keeping.jobs * 86400, 0
        for _ in range(_STEPS if seconds else 0):
            if not (step := self._orders.prune(older_than=seconds)):
                break
            forgotten += step
        return forgotten

    def _events(self) -> int:
        age, forgotten = timedelta(days=self._keeping.events), 0
        for _ in range(_STEPS if age else 0):
            if not (step := self._stream.prune(older_than=age, now=self._now())):
                break
            forgotten += step
        return forgotten
