"""Reading what happened, in order and without gaps, as often as one likes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.orm import Session

from ..catalog import Catalog
from ..catalog.outbox import OutboxEvent
from ..spi.errors import InvalidArgument
from .tables import PendingRow

MAX_PAGE = 1000


class EventStream:
    """The events of a catalog; safe for threads and for several processes.

    Args:
        poll: seconds between two looks of `follow`.
    """

    def __init__(self, catalog: Catalog, *, poll: float = 1.0) -> None:
        self._catalog = catalog
        self._poll = poll

    def read(self, after: int = 0, *, limit: int = 100, types: Sequence[str] = ()) -> Sequence[OutboxEvent]:
        """Return at most `limit` events whose position is above `after`.

        Args:
            types: beginnings of types that are wanted, such as "bollard.job."; none: all.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise InvalidArgument(f"a page holds 1 to {MAX_PAGE} events")
        self._give_positions()
        chosen = select(OutboxEvent).where(OutboxEvent.position > after)
        if types:
            chosen = chosen.where(
                or_(*(OutboxEvent.type.startswith(kind, autoescape=True) for kind in types))
            )
        with self._catalog.reading() as session:
            return session.scalars(chosen.order_by(OutboxEvent.position).limit(limit)).all()

    def last(self) -> int:
        """Return the newest position; 0 if nothing has happened."""
        while self._give_positions():  # a page at a time: nobody may have looked for long
            pass
        with self._catalog.reading() as session:
            return _last(session)

    def follow(
        self, after: int, stop: threading.Event, *, types: Sequence[str] = ()
    ) -> Iterator[OutboxEvent]:
        """Yield events above `after` as they happen, until `stop` is set."""
        while not stop.is_set():
            for event in (found := self.read(after, types=types)):
                yield event
                after = position_of(event)
            if not found:
                stop.wait(self._poll)

    def prune(self, *, older_than: timedelta, now: datetime | None = None, limit: int = 10_000) -> int:
        """Forget events of long ago, whether delivered to all webhooks or not; return how many.

        The newest one stays: it tells where the stream goes on.
        """
        before = ((now or datetime.now(UTC)) - older_than).astimezone(UTC).isoformat(timespec="milliseconds")
        with self._catalog.transaction(scope="events") as session:
            old = select(OutboxEvent.position).where(
                OutboxEvent.time < before, OutboxEvent.position < _last(session)
            )
            positions = session.scalars(old.limit(limit)).all()
            session.execute(delete(PendingRow).where(PendingRow.position.in_(positions)))
            session.execute(delete(OutboxEvent).where(OutboxEvent.position.in_(positions)))
        return len(positions)

    def _give_positions(self) -> bool:
        """Give positions to what has none, a page at most; tell whether there may be more."""
        new = select(OutboxEvent.number).where(OutboxEvent.position.is_(None)).order_by(OutboxEvent.number)
        with self._catalog.reading() as session:
            if session.scalars(new.limit(1)).one_or_none() is None:
                return False
        with self._catalog.transaction(scope="events") as session:
            numbers = session.scalars(new.limit(MAX_PAGE)).all()
            first = _last(session) + 1
            rows = [{"number": number, "position": first + n} for n, number in enumerate(numbers)]
            if rows:
                session.execute(update(OutboxEvent), rows)
        return len(numbers) == MAX_PAGE


def position_of(event: OutboxEvent) -> int:
    """Return the position of an event that was read from the stream."""
    if event.position is None:
        raise AssertionError("only events with a position are read")
    return event.position


def cloud_event(event: OutboxEvent) -> dict[str, Any]:
    """Return an event in CloudEvents' JSON (1.0); `sequence` sorts as text."""
    found = {
        "specversion": "1.0",
        "id": event.id,
        "source": "/bollard/catalog",
        "type": event.type,
        "subject": event.subject,
        "time": event.time,
        "datacontenttype": "application/json",
        "sequence": f"{position_of(event):020}",
        "data": event.data,
    }
    return found | ({"requestid": event.request} if event.request else {})


def _last(session: Session) -> int:
    return session.scalars(select(func.max(OutboxEvent.position))).one() or 0
