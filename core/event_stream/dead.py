"""Dead letters: events that a webhook's receiver refused until they were given up.

    pending ── refused too often ──> dead ── retry ──> pending, as if it had never been tried

Later events of the same object have not waited for it: it comes after them, with its old position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select, update

from ..catalog import Catalog
from ..catalog.outbox import OutboxEvent
from ..spi.errors import InvalidArgument
from .stream import MAX_PAGE
from .tables import PendingRow


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """An event that was given up, and how its receiver refused it last."""

    webhook: str
    event: OutboxEvent
    attempts: int
    error: str


class DeadLetters:
    """Those of all webhooks of a catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def read(self, *, webhook: str = "", after: int = 0, limit: int = 100) -> Sequence[DeadLetter]:
        """Return at most `limit`, oldest event first, of events whose position is above `after`.

        Raises:
            InvalidArgument: the limit is not between 1 and 1000.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise InvalidArgument(f"a page holds 1 to {MAX_PAGE} dead letters")
        chosen = (
            select(PendingRow, OutboxEvent)
            .join(OutboxEvent, OutboxEvent.position == PendingRow.position)
            .where(PendingRow.dead.is_(True), PendingRow.position > after)
        )
        if webhook:
            chosen = chosen.where(PendingRow.webhook == webhook)
        ordered = chosen.order_by(PendingRow.position, PendingRow.webhook)
        with self._catalog.reading() as session:
            return [
                DeadLetter(webhook=row.webhook, event=event, attempts=row.attempts, error=row.error)
                for row, event in session.execute(ordered.limit(limit)).all()
            ]

    def retry(self, webhook: str, positions: Sequence[int] = ()) -> int:
        """Have a webhook's dead letters delivered again; return how many.

        Args:
            positions: of their events; none: all.
        """
        chosen = update(PendingRow).where(PendingRow.webhook == webhook, PendingRow.dead.is_(True))
        if positions:
            chosen = chosen.where(PendingRow.position.in_(positions))
        living = chosen.values(dead=False, attempts=0, not_before=0.0).returning(PendingRow.position)
        with self._catalog.transaction(scope=f"webhook:{webhook}") as session:
            return len(session.execute(living).all())
