"""Who lives: each process of a fleet holds a lease in the catalog, and renews it.

    ── renewed in time ... ── expires ────────────── expires + grace ── dead: it is buried, and what it
       the owner may act      nobody may act                           held is anybody's

A buried owner never acts again: its row is gone, and its next step is `Conflict`. Its process may live on
under a new id, which has nothing in hand.

A process on the same machine need not wait for that: the owner locks a file for as long as it lives, and
the kernel gives the lock back when it dies. Clocks of different machines may differ by less than the grace.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from ..catalog import Catalog
from ..catalog.intents import IntentLockRow, IntentRow, OwnerRow
from ..catalog.works import WorkRow
from ..dataplane.os_errors import os_errors
from ..spi import Conflict, StorageError

_log = logging.getLogger("bollard.intents")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """How long things take, in seconds.

    Attributes:
        term: an owner that has not renewed for so long must not act any more.
        grace: after that, until others may take over: more than two clocks differ by.
        beat: between two renewals; 0: nobody renews by itself (`Owner.beat` does).
    """

    term: float = 60.0
    grace: float = 60.0
    beat: float = 15.0


class Owner:
    """This process, as the fleet sees it; close it when it has nothing in hand any more.

    Args:
        directory: of this machine, for the files that prove a death at once.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        catalog: Catalog,
        directory: Path,
        *,
        lease: Lease = Lease(),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = f"{socket.gethostname()}, process {os.getpid()}"
        self.clock = clock
        self._catalog, self._lease, self._directory = catalog, lease, directory
        self._stop = threading.Event()
        self._in_hand: dict[tuple[str, str], object] = {}
        self._taking = threading.Lock()
        self._former: list[IO[bytes]] = []
        self.after_beat: Callable[[], None] = lambda: None
        self._file, self.id = self._new_life()
        self._thread = threading.Thread(target=self._run, name="bollard-lease", daemon=True)
        if lease.beat:
            self._thread.start()

    def close(self) -> None:
        """End the lease: what this process still has in hand is anybody's. Repeatable."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._file.closed:
            return
        try:
            with self._catalog.transaction() as session:
                row = session.get(OwnerRow, self.id)
                if row is not None:
                    self.bury(session, row)
        except StorageError as error:
            _log.warning("the lease of %s ends by itself: %s", self.name, error)
        finally:
            self._let_go()

    def beat(self) -> None:
        """Renew the lease.

        Raises:
            Conflict: somebody has taken this process for dead.
        """
        with self._catalog.transaction() as session:
            self.check(session).expires = self.clock() + self._lease.term
        self.after_beat()

    def begin_anew(self) -> None:
        """Live on under another id, after a lease that ran out: what was in hand is and stays the others'.

        A server that a paused machine or a jump of the clock has made stand still could else begin nothing
        any more until somebody starts it again.
        """
        former, self._file, self.id = self._file, *self._new_life()
        self._former.append(former)  # locked on: whether it may be buried, its lease tells, not we

    def _new_life(self) -> tuple[IO[bytes], str]:
        new = uuid.uuid4().hex
        file = _lock_new(self._directory, self._path(new))
        try:
            self._register(new)
        except BaseException:
            self._path(new).unlink(missing_ok=True)
            file.close()
            raise
        return file, new

    def take_up(self, act: tuple[str, str], token: object) -> None:
        """Note that a thread has an act in hand: kind and id of its object."""
        with self._taking:
            self._in_hand[act] = token

    def put_down(self, token: object) -> None:
        """Note that a thread has nothing in hand any more."""
        with self._taking:
            self._in_hand = {act: other for act, other in self._in_hand.items() if other is not token}

    def has(self, act: tuple[str, str]) -> bool:
        """Tell whether a thread of this process has an act in hand."""
        with self._taking:
            return act in self._in_hand

    def check(self, session: Session) -> OwnerRow:
        """Return our row if we may act.

        Raises:
            Conflict: the lease is over; what was begun is ended by others.
        """
        row = session.get(OwnerRow, self.id)
        if row is None or row.expires <= self.clock():
            raise Conflict("this process did not renew its lease in time, and others may have taken over")
        return row

    def is_dead(self, row: OwnerRow) -> bool:
        """Tell whether an owner can act no more; without asking him."""
        if row.id == self.id:
            return False
        if row.expires + self._lease.grace <= self.clock():
            return True
        return _is_unlocked(self._path(row.id))

    def lives(self, session: Session, owner: str) -> bool:
        """Tell whether an owner may still act; one that is dead is buried."""
        row = session.get(OwnerRow, owner)
        if row is not None and self.is_dead(row):
            self.bury(session, row)
            return False
        return row is not None

    def bury(self, session: Session, row: OwnerRow) -> None:
        """See to it that a dead owner never acts again, and let anybody have what it had in hand."""
        for held in (IntentRow, WorkRow):
            session.execute(update(held).where(held.owner == row.id).values(owner=None))
        session.execute(delete(IntentLockRow).where(IntentLockRow.owner == row.id))
        session.delete(row)
        session.flush()

    def bury_the_dead(self, session: Session) -> None:
        """Bury all that are dead; there is one row for each process that lives."""
        self.check(session)
        for row in session.scalars(select(OwnerRow)).all():
            if self.is_dead(row):
                self.bury(session, row)
        self._tidy(set(session.scalars(select(OwnerRow.id))))

    def _tidy(self, living: Collection[str]) -> None:
        """Remove the files of owners that died before or after the catalog knew them."""
        for path in self._directory.glob("*.owner"):
            if path.stem not in living and _is_unlocked(path):
                path.unlink(missing_ok=True)

    def _register(self, new: str) -> None:
        with self._catalog.transaction() as session:
            row = OwnerRow(id=new, name=self.name, expires=self.clock() + self._lease.term)
            session.add(row)

    def _run(self) -> None:
        while not self._stop.wait(self._lease.beat):
            try:
                self.beat()
            except Conflict as error:
                _log.error("%s", error.message)
                self._begin_anew()
            except StorageError as error:  # the lease is longer than many beats
                _log.warning("the lease was not renewed this time: %s", error)

    def _begin_anew(self) -> None:
        try:
            self.begin_anew()
        except StorageError as error:
            _log.warning("no new lease was had this time: %s", error)

    def _path(self, owner: str) -> Path:
        return self._directory / f"{owner}.owner"

    def _let_go(self) -> None:
        for file in (self._file, *self._former):
            Path(file.name).with_suffix(".owner").unlink(missing_ok=True)  # it was opened as a draft
            file.close()


def _lock_new(directory: Path, path: Path) -> IO[bytes]:
    with os_errors(f"cannot keep {path}"):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        file = draft.open("xb")
        fcntl.flock(file, fcntl.LOCK_EX)
        draft.rename(path)  # it has its name when it is locked, not before
    return file


def _is_unlocked(path: Path) -> bool:
    """Tell whether a process of this machine has died; one of another machine has no file here."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return path.exists()
    return False
