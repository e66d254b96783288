"""One act at a time on each object, by one process of the fleet; a dead one's act is ended by the next.

begin ── in one transaction with the transition ──> act on the backends ──> end, in one transaction
│ Busy: a living one is at it                          │ kill -9, or an error that leaves it open
│ Interrupted: a dead one was: settle it first         └──> left ── claim ──> settle ──> end
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from ..catalog import Catalog
from ..catalog.works import WorkRow
from ..spi import Busy, Conflict, StorageError
from .owners import Owner

_log = logging.getLogger("bollard.service")

_PAGE = 100


class Interrupted(Busy):
    """A process that has died, or has given up, left an act open; it is to be settled first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """An act in hand, or one that was left; see `WorkRow`."""

    kind: str
    object: str
    act: str
    details: Mapping[str, Any]
    epoch: int
    vm: str
    host: str
    began: float


class Works:
    """The acts of all processes that share a catalog."""

    def __init__(self, catalog: Catalog, owner: Owner) -> None:
        self.catalog = catalog
        self.owner = owner
        self._mine = threading.local()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Hold what this thread begins or claims in the block, and nothing after it, however it ends.

        An act whose end could not be written, as the catalog was away, would else look like one in the hands
        of a living process until that ends, and nobody might end it.
        """
        outer = getattr(self._mine, "token", None)
        self._mine.token = token = outer or object()
        try:
            yield
        finally:
            self._mine.token = outer
            if outer is None:
                self.owner.put_down(token)

    def _take_up(self, kind: str, object_id: str) -> None:
        self.owner.take_up((kind, object_id), getattr(self._mine, "token", None))

    def _lives(self, session: Session, row: WorkRow) -> bool:
        if row.owner is None:
            return False
        if row.owner == self.owner.id:
            return self.owner.has((row.kind, row.object))
        return self.owner.lives(session, row.owner)

    def begin(
        self,
        session: Session,
        kind: str,
        object_id: str,
        act: str,
        details: Mapping[str, Any],
        *,
        vm: str = "",
        host: str = "",
    ) -> Work:
        """Write an act down, together with what else the transaction does.

        Raises:
            Busy: a living process is at the object.
            Interrupted: a dead one was.
            Conflict: this process was taken for dead.
        """
        self.owner.check(session)
        row = session.get(WorkRow, (kind, object_id))
        if row is not None:
            if self._lives(session, row):
                raise Busy(f"{kind} {object_id}: {row.act} is under way", retry_after=1.0)
            raise Interrupted(f"{kind} {object_id}: {row.act} was interrupted; bollard sync ends it")
        row = WorkRow(
            kind=kind,
            object=object_id,
            act=act,
            details=dict(details),
            owner=self.owner.id,
            epoch=1,
            vm=vm,
            host=host,
            began=self.owner.clock(),
            error="",
        )
        session.add(row)
        self._take_up(kind, object_id)
        return _value(row)

    def note(self, session: Session, work: Work, **details: Any) -> Work:
        """Add to what is known of an act.

        Raises:
            Conflict: it is not ours any more.
        """
        row = self._ours(session, work)
        row.details = {**row.details, **details}
        return _value(row)

    def end(self, session: Session, work: Work) -> None:
        """Remove an act, together with the transition to rest.

        Raises:
            Conflict: it is not ours any more: others have ended it, and decided on the object.
        """
        session.delete(self._ours(session, work))

    def check(self, work: Work) -> None:
        """Ask before something is undone: of who stood still, others may have ended the act and gone on.

        Raises:
            Conflict: it is not ours any more.
        """
        with self.catalog.transaction() as session:
            self._ours(session, work)

    def leave(self, work: Work, error: str) -> None:
        """Let a sync have an act that could not be ended now; never raises: the first error is to be told."""
        try:
            with self.catalog.transaction() as session:
                row = session.get(WorkRow, (work.kind, work.object))
                if row is not None and (row.owner, row.epoch) == (self.owner.id, work.epoch):
                    row.owner, row.error = None, error[:1000]
        except StorageError as other:
            _log.warning("why %s of %s %s waits is not noted: %s", work.act, work.kind, work.object, other)

    def claim(self, kind: str, object_id: str) -> Work | None:
        """Take what was left of an act on an object in hand; None: there is none, or its owner lives."""
        with self.catalog.transaction() as session:
            self.owner.check(session)
            row = session.get(WorkRow, (kind, object_id))
            if row is None or self._lives(session, row):
                return None
            row.owner, row.epoch = self.owner.id, row.epoch + 1
            self._take_up(kind, object_id)
            return _value(row)

    def left(self, after: Work | None = None, *, vm: str = "", host: str = "") -> Sequence[Work]:
        """Return a page of acts whose owners are dead or have given up, oldest first.

        Args:
            after: the last one of the page before.
            vm: only those of its disks; `host`: only those that happen on it.
        """
        chosen = select(WorkRow).order_by(WorkRow.began, WorkRow.kind, WorkRow.object)
        if after is not None:
            place = tuple_(WorkRow.began, WorkRow.kind, WorkRow.object)
            chosen = chosen.where(place > (after.began, after.kind, after.object))
        if vm:
            chosen = chosen.where(WorkRow.vm == vm)
        if host:
            chosen = chosen.where(WorkRow.host == host)
        with self.catalog.transaction() as session:
            self.owner.bury_the_dead(session)
            for row in session.scalars(select(WorkRow).where(WorkRow.owner == self.owner.id)):
                if not self._lives(session, row):
                    row.owner = None
            session.flush()
            free = chosen.where(WorkRow.owner.is_(None)).limit(_PAGE)
            return [_value(row) for row in session.scalars(free)]

    def _ours(self, session: Session, work: Work) -> WorkRow:
        self.owner.check(session)
        row = session.get(WorkRow, (work.kind, work.object))
        if row is None or (row.owner, row.epoch) != (self.owner.id, work.epoch):
            raise Conflict(f"{work.kind} {work.object}: others have taken over")
        return row


def _value(row: WorkRow) -> Work:
    return Work(
        kind=row.kind,
        object=row.object,
        act=row.act,
        details=dict(row.details),
        epoch=row.epoch,
        vm=row.vm,
        host=row.host,
        began=row.began,
    )
