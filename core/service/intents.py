"""The journal of a fleet: intents in the catalog, so that any machine ends what a dead one has begun.

    begin      intent and lease are checked and written in one transaction
    claim      a dead owner is buried, and his intent ours, in one transaction; its epoch rises
    deciding   a row per object that is decided on; a dead holder's is taken over

Same interface as the files of `core/journal.py`. A process that was taken for dead, because it stood still
for longer than its lease, cannot begin, replace or end anything any more.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from ..catalog import Catalog
from ..catalog.intents import IntentLockRow, IntentRow, OwnerRow
from ..intents import Entry
from ..spi import Busy, Conflict, Outcome, StorageError
from .owners import Lease, Owner

_log = logging.getLogger("bollard.intents")

_PAGE = 100
_LOOK_AGAIN = 0.05  # seconds between two looks at an object on which another one decides
_PATIENCE = 600.0  # seconds; a decision takes as long as a revoke or a delete on the backend


@dataclass(slots=True, kw_only=True)
class CatalogEntry(Entry):
    """An intent in the catalog; `epoch` proves that it is ours still."""

    id: str
    epoch: int
    journal: CatalogJournal
    ended: bool = False

    def done(self) -> None:
        """See `Entry.done`; raises `StorageError` if that cannot be noted: the entry stays."""
        if not self.ended:
            self.journal.drop(self)
            self.ended = True

    def complete(self) -> None:
        """See `Entry.complete`."""
        self.journal.complete(self)
        self.ended = True

    def release(self) -> None:
        """See `Entry.release`; what cannot be noted now is noted when the lease is next renewed."""
        if self.ended:
            return
        self.ended = True
        self.journal.at_last(lambda: self.journal.let_go(self))


class CatalogJournal:
    """Intents of all machines that share a catalog. Close it; the catalog is its owner's to close.

    Args:
        directory: of this machine; see `Owner`.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        catalog: Catalog,
        directory: Path,
        *,
        lease: Lease = Lease(),  # noqa: B008 - frozen
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._catalog = catalog
        self.owner = Owner(catalog, directory, lease=lease, clock=clock)
        self._wait = threading.Event()
        self._owed: deque[Callable[[], None]] = deque()
        self.owner.after_beat = self._pay

    def close(self) -> None:
        """End the lease. Repeatable."""
        self.owner.close()

    def at_last(self, act: Callable[[], None]) -> None:
        """Do what lets others have something; if the catalog is away, as soon as the lease can be renewed.

        Nobody may take it from a process that lives: what is not let go of would be kept until that ends.
        """
        try:
            act()
        except StorageError as error:
            _log.warning("let go of with the next renewal of the lease: %s", error)
            self._owed.append(act)

    def _pay(self) -> None:
        for _ in range(len(self._owed)):
            self.at_last(self._owed.popleft())

    def begin(self, kind: str, **fields: str) -> CatalogEntry:
        """Make an intent durable. Nothing that it names may exist before this returns.

        Raises:
            StorageError: it cannot be written, or others took this process for dead; nothing may be begun.
        """
        row = IntentRow(
            id=uuid.uuid4().hex,
            kind=kind,
            fields=_text(fields),
            subject=_subject(fields),
            owner=self.owner.id,
            epoch=1,
            began=self.owner.clock(),
            began_by=self.owner.name,
        )
        with self.deciding(fields), self._catalog.transaction() as session:
            self.owner.check(session)
            session.add(row)
            session.flush()
            return self._entry(row)

    def replace(self, entry: CatalogEntry, kind: str, **fields: str) -> None:
        """Turn an intent into another one, in one transaction.

        Raises:
            Conflict: it is not ours any more; nothing was changed.
            StorageError: outcome unknown; whether it was replaced is what a sweep will find.
        """
        try:
            with self.deciding(fields), self._catalog.transaction() as session:
                row = self._ours(session, entry)
                row.kind, row.fields, row.subject = kind, _text(fields), _subject(fields)
        except Conflict:
            raise
        except StorageError as error:
            error.outcome = Outcome.UNKNOWN
            raise
        entry.kind, entry.fields = kind, dict(fields)

    def abandoned(self) -> Iterator[CatalogEntry]:
        """Yield the entries that no living owner has in hand, oldest first; each is ours until released."""
        with self._catalog.transaction() as session:
            self.owner.bury_the_dead(session)
        after: tuple[float, str] = (-1.0, "")
        while page := self._page(after):
            for row in page:
                entry = self._claim(row.id)
                if entry is not None:
                    yield entry
            after = (page[-1].began, page[-1].id)

    def named(self, field: str, **like: str) -> set[str]:
        """See `Intents.named`."""
        with self._catalog.reading() as session:
            every = [json.loads(fields) for fields in session.scalars(select(IntentRow.fields))]
        return {one[field] for one in every if field in one and like.items() <= one.items()}

    def claim(self, entry: CatalogEntry) -> CatalogEntry | None:
        """Take an entry that was let go of in hand again; None: somebody else has it, or has ended it."""
        return self._claim(entry.id)

    @contextmanager
    def deciding(self, fields: Mapping[str, str]) -> Iterator[None]:
        """Keep everybody else, of all machines, from beginning or ending anything with `fields`.

        Raises:
            Busy: another one decides for longer than any decision takes.
            Conflict: others took this process for dead.
        """
        subject, holder = _subject(fields), uuid.uuid4().hex
        deadline = time.monotonic() + _PATIENCE
        while not self._lock(subject, holder):
            if time.monotonic() > deadline:
                raise Busy("another process decides on the same object")
            self._wait.wait(_LOOK_AGAIN)
        try:
            yield
        finally:
            self._unlock(subject, holder)

    def others_hold(self, entry: CatalogEntry, kinds: Collection[str]) -> bool:
        """Tell whether somebody living has another entry of these kinds for the same object, or this one."""
        chosen = (
            select(OwnerRow)
            .join(IntentRow, IntentRow.owner == OwnerRow.id)
            .where(IntentRow.subject == _subject(entry.fields), IntentRow.id != entry.id)
            .where(IntentRow.kind.in_(kinds))
        )
        with self._catalog.reading() as session:
            if not self._is_ours(session, entry):
                return True
            return any(not self.owner.is_dead(row) for row in session.scalars(chosen))

    def _is_ours(self, session: Session, entry: CatalogEntry) -> bool:
        """Tell whether an entry is in hand still: others may have ended it, and gone on."""
        row = session.get(IntentRow, entry.id)
        owner = session.get(OwnerRow, self.owner.id)
        alive = owner is not None and owner.expires > self.owner.clock()
        return alive and row is not None and (row.owner, row.epoch) == (self.owner.id, entry.epoch)

    def drop(self, entry: CatalogEntry) -> None:
        """Remove an entry; one that others have claimed is theirs to remove."""
        with self._catalog.transaction() as session:
            row = session.get(IntentRow, entry.id)
            if row is not None and (row.owner, row.epoch) == (self.owner.id, entry.epoch):
                session.delete(row)

    def complete(self, entry: CatalogEntry) -> None:
        """Remove an entry that has to be ours still; see `Entry.complete`."""
        with self._catalog.transaction() as session:
            session.delete(self._ours(session, entry))

    def let_go(self, entry: CatalogEntry) -> None:
        """Let anybody have an entry that is ours."""
        with self._catalog.transaction() as session:
            row = session.get(IntentRow, entry.id)
            if row is not None and (row.owner, row.epoch) == (self.owner.id, entry.epoch):
                row.owner = None

    def _ours(self, session: Session, entry: CatalogEntry) -> IntentRow:
        self.owner.check(session)
        row = session.get(IntentRow, entry.id)
        if row is None or (row.owner, row.epoch) != (self.owner.id, entry.epoch):
            raise Conflict("the intent is not this process's any more")
        return row

    def _page(self, after: tuple[float, str]) -> list[IntentRow]:
        place = tuple_(IntentRow.began, IntentRow.id)
        free = select(IntentRow).where(IntentRow.owner.is_(None), place > after)
        chosen = free.order_by(IntentRow.began, IntentRow.id)
        with self._catalog.reading() as session:
            return list(session.scalars(chosen.limit(_PAGE)))

    def _claim(self, intent: str) -> CatalogEntry | None:
        with self._catalog.transaction() as session:
            self.owner.check(session)
            row = session.get(IntentRow, intent)
            if row is None or (row.owner is not None and self.owner.lives(session, row.owner)):
                return None
            row.owner, row.epoch = self.owner.id, row.epoch + 1
            session.flush()
            return self._entry(row)

    def _entry(self, row: IntentRow) -> CatalogEntry:
        return CatalogEntry(
            kind=row.kind,
            fields=json.loads(row.fields),
            began=row.began,
            owner=row.began_by,
            id=row.id,
            epoch=row.epoch,
            journal=self,
        )

    def _lock(self, subject: str, holder: str) -> bool:
        with self._catalog.transaction() as session:
            self.owner.check(session)
            row = session.get(IntentLockRow, subject)
            if row is not None and self.owner.lives(session, row.owner):
                return False  # else it went with its owner
            session.add(IntentLockRow(subject=subject, owner=self.owner.id, holder=holder))
            return True

    def _unlock(self, subject: str, holder: str) -> None:
        def unlock() -> None:
            with self._catalog.transaction() as session:
                row = session.get(IntentLockRow, subject)
                if row is not None and row.holder == holder:
                    session.delete(row)

        self.at_last(unlock)


def _text(fields: Mapping[str, str]) -> str:
    return json.dumps(fields, sort_keys=True)


def _subject(fields: Mapping[str, str]) -> str:
    return hashlib.sha256(_text(fields).encode()).hexdigest()
