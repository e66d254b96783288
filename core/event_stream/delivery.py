"""Webhooks: at least once, in order per object, one deliverer at a time for each.

    stream ─ position ─> wanted? ─> something of this subject pending? ─ yes ─> pending, behind it
                                          │ no
                                          └─> send ── refused ──> pending: 5 s, 10 s, … then dead
                                               └──── not reached ─> the webhook rests; nothing is given up

A refusal is about one event, so the others go on; a receiver that is not there is no event's fault. After a
kill -9 the event that was under way is delivered again: receivers know it by its id.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ..catalog import Catalog
from ..catalog.outbox import OutboxEvent
from ..spi.errors import Conflict, StorageError, Unavailable
from .options import Webhook
from .sending import Send, told
from .stream import EventStream, cloud_event, position_of
from .tables import PendingRow, WebhookRow

_FIRST, _LONGEST = 5.0, 3600.0
_AT_ONCE = 50


class Deliverer:
    """Delivers to one webhook.

    Args:
        owner: unique among all deliverers.
        lease: seconds after which another one takes over a silent one's work.
        stop: set when nothing more is to be delivered.
        clock: seconds since 1970.
        jitter: gives a number from 0 to 1.
    """

    def __init__(
        self,
        catalog: Catalog,
        name: str,
        webhook: Webhook,
        send: Send,
        *,
        owner: str,
        lease: float = 120.0,
        stop: threading.Event | None = None,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._catalog = catalog
        self._stream = EventStream(catalog)
        self._name = name
        self._webhook = webhook
        self._send = send
        self._owner = owner
        self._lease = lease
        self._stop = stop or threading.Event()
        self._clock = clock
        self._jitter = jitter

    def step(self) -> bool:
        """Deliver what is due, at most some; tell whether there was anything.

        Raises:
            Conflict: another deliverer has taken over.
            StorageError: the catalog cannot be used.
        """
        place = self._hold()
        if place is None:
            return False
        try:
            due = self._due()
            self._each(due, self._again)
            new = self._stream.read(place, limit=_AT_ONCE)
            self._each(new, self._first_time)
        except Unavailable:
            if not self._stop.is_set():  # else it was we who hung up
                self._rest()
            return False
        return bool(due or new)

    def _each(self, events: Sequence[OutboxEvent], deliver: Callable[[OutboxEvent], None]) -> None:
        for event in events:
            if self._stop.is_set():
                return
            deliver(event)

    def _hold(self) -> int | None:
        """Take or renew the lease; return how far the webhook is, None if it is another's or rests.

        A new one begins with what happens from now on.
        """
        last, now = self._stream.last(), self._clock()
        with self._catalog.transaction(scope=f"webhook:{self._name}") as session:
            row = session.get(WebhookRow, self._name)
            if row is None:
                row = WebhookRow(name=self._name, position=last)
                session.add(row)
            if row.owner not in ("", self._owner) and row.lease_until > now:
                return None
            row.owner, row.lease_until = self._owner, now + self._lease
            return row.position if row.not_before <= now else None

    def _due(self) -> Sequence[OutboxEvent]:
        """Return the first pending event of each subject, if its pause is over."""
        heads = select(func.min(PendingRow.position)).where(
            PendingRow.webhook == self._name, PendingRow.dead.is_(False)
        )
        due = select(PendingRow.position).where(
            PendingRow.webhook == self._name,
            PendingRow.position.in_(heads.group_by(PendingRow.subject)),
            PendingRow.not_before <= self._clock(),
        )
        chosen = select(OutboxEvent).where(OutboxEvent.position.in_(due)).order_by(OutboxEvent.position)
        with self._catalog.reading() as session:
            return session.scalars(chosen.limit(_AT_ONCE)).all()

    def _again(self, event: OutboxEvent) -> None:
        error = self._try(event)
        with self._catalog.transaction(scope=f"webhook:{self._name}") as session:
            row = session.get_one(PendingRow, (self._name, position_of(event)))
            self._mine(session)
            if error is None:
                session.delete(row)
            else:
                self._refused(row, error)

    def _first_time(self, event: OutboxEvent) -> None:
        waits = self._is_behind(event)
        error = None if waits or not self._webhook.wants(event.type) else self._try(event)
        with self._catalog.transaction(scope=f"webhook:{self._name}") as session:
            mine = self._mine(session)
            mine.position, mine.failures = position_of(event), 0
            if waits or error:
                row = PendingRow(webhook=self._name, position=position_of(event), subject=event.subject)
                session.add(row)
                if error:
                    self._refused(row, error)

    def _is_behind(self, event: OutboxEvent) -> bool:
        earlier = select(PendingRow.position).where(
            PendingRow.webhook == self._name, PendingRow.dead.is_(False), PendingRow.subject == event.subject
        )
        with self._catalog.reading() as session:
            found = session.scalars(earlier.limit(1)).one_or_none()
        return found is not None and self._webhook.wants(event.type)

    def _try(self, event: OutboxEvent) -> StorageError | None:
        """Deliver an event; returns how it was refused. `Unavailable` is raised."""
        try:
            self._send(cloud_event(event), self._clock())
        except Unavailable:
            raise
        except StorageError as error:
            return error
        return None

    def _refused(self, row: PendingRow, error: StorageError) -> None:
        row.attempts += 1
        row.error = told(error)
        row.dead = row.attempts >= self._webhook.attempts
        row.not_before = self._clock() + self._pause(row.attempts)

    def _rest(self) -> None:
        with self._catalog.transaction(scope=f"webhook:{self._name}") as session:
            row = self._mine(session)
            row.failures += 1
            row.not_before = self._clock() + self._pause(row.failures)

    def _pause(self, times: int) -> float:
        longest = min(_LONGEST, _FIRST * 2.0 ** min(times - 1, 32))
        return longest * (0.5 + self._jitter() / 2)

    def _mine(self, session: Session) -> WebhookRow:
        row = session.get(WebhookRow, self._name, with_for_update=True)
        if row is None or row.owner != self._owner:
            raise Conflict(f"another one delivers to the webhook {self._name} by now")
        row.lease_until = self._clock() + self._lease
        return row
