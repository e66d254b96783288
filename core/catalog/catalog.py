"""The database of an orchestrator's storage objects, as transactions.

    with catalog.transaction() as session:      alone until COMMIT, or ROLLBACK on any exception
        ...

One writer at a time: two orchestrators that decide on one chain take turns, and none decides on what the
other is about to change. SQLite's writers wait at BEGIN IMMEDIATE, PostgreSQL's for an advisory lock,
which the server gives back when a client dies.

    transaction()                  ├────── alone ──────┤
    transaction(scope="volume:1")      waits           ├── beside other scopes, never beside its own ──┤
    reading()                      a view of one instant; waits for nobody, nobody waits for it
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from .base import Base
from .engines import READING, is_postgresql, open_engine, parse_url
from .failures import Contended, storage_error
from .revision import NEWEST, current, reading
from .transitions import CLOCK, Clock

__all__ = ["Base", "Catalog"]

Result = TypeVar("Result")

# "boll" and "bols": PostgreSQL's advisory locks are numbers that all users of one database share.
_ALL, _SCOPED = 0x626F6C6C, 0x626F6C73
_TRIES = 6


class Catalog:
    """An open database; safe for threads, each transaction is one thread's.

    Args:
        url: "sqlite:///PATH" or "postgresql://USER@HOST/DATABASE". Not SQLite in memory: each thread
            would see its own.
        clock: tells the time to records; None is the machine's own.

    Raises:
        InvalidArgument: the URL is none.
        Conflict: the schema is another version's; the message says what to do. SQLite's is upgraded.
        Unavailable, Unauthenticated, NotFound, PermissionDenied: the database cannot be used.
    """

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        parsed = parse_url(url)
        self._name = parsed.render_as_string(hide_password=True)
        self._info = {CLOCK: clock} if clock else {}
        self._engine = open_engine(parsed)
        try:
            _prepare(self._engine)
        except SQLAlchemyError as error:
            self._engine.dispose()
            raise storage_error(error, committing=False) from error
        except BaseException:
            self._engine.dispose()
            raise

    def __repr__(self) -> str:
        return f"Catalog({self._name!r})"

    def close(self) -> None:
        """Close all connections; repeatable."""
        self._engine.dispose()

    @contextmanager
    def transaction(self, *, scope: str = "") -> Iterator[Session]:
        """Yield a session; what it changed is durable when the block ends, or undone if it raised.

        Args:
            scope: one object, such as "volume:v-1", if all that the block reads for its decision and all
                that it writes is that object's; "" is the whole catalog. It widens what may run at the
                same time, on PostgreSQL; SQLite has one writer anyway.

        Raises:
            Busy: another process kept the catalog locked for half a minute (not applied).
            Conflict: another process was first to write what a rule allows only once (not applied).
            Unavailable: the database cannot be reached; unknown only if the connection broke in COMMIT.
            Internal: the database failed; unknown only if it did in COMMIT.
        """
        with self._session({}) as session:
            _lock(session, scope)
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Yield a session that sees the catalog as it was at one instant, and may not write.

        It waits for no writer, so nothing may be decided on what it shows.

        Raises:
            Unavailable: the database cannot be reached.
            Internal: the database failed, or the block tried to write.
        """
        options: dict[str, object] = {READING: True}
        if is_postgresql(self._engine):
            options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with self._session(options) as session:
            yield session

    def run(self, work: Callable[[Session], Result], *, scope: str = "", tries: int = _TRIES) -> Result:
        """Return what `work` returns; it is done again while another transaction was in the way.

        Args:
            work: may run several times, and does nothing but work with its session.

        Raises:
            Contended: each time (not applied).
            StorageError: as `transaction`, at once.
        """
        again = Retrying(
            retry=retry_if_exception_type(Contended),
            wait=wait_random_exponential(multiplier=0.02, max=1.0),
            stop=stop_after_attempt(tries),
            reraise=True,
        )
        result: Result = again(self._once, work, scope)
        return result

    def _once(self, work: Callable[[Session], Result], scope: str) -> Result:
        with self.transaction(scope=scope) as session:
            return work(session)

    @contextmanager
    def _session(self, options: dict[str, object]) -> Iterator[Session]:
        committing = False
        with Session(self._engine, expire_on_commit=False, info=dict(self._info)) as session:
            try:
                session.connection(execution_options=options)
                yield session
                session.flush()  # what the server refuses here is not applied; in COMMIT it could be unknown
                committing = True
                session.commit()
            except SQLAlchemyError as error:
                raise storage_error(error, committing=committing) from error


def _prepare(engine: Engine) -> None:
    with reading(engine) as connection:
        if current(connection) == NEWEST:
            return
    from . import schema  # Alembic's 0.25 s of CPU, once for each database

    schema.prepare(engine)


def _lock(session: Session, scope: str) -> None:
    """Take turns on PostgreSQL; the lock is the transaction's and ends with it.

    READ COMMITTED on purpose: each statement sees what was committed before it, so whoever has the lock
    sees what the one before him did. A snapshot that was taken before the wait would not show it.
    """
    if not is_postgresql(session.connection()):
        return
    if not scope:
        session.execute(text("SELECT pg_advisory_xact_lock(:kind, 0)"), {"kind": _ALL})
        return
    number = zlib.crc32(scope.encode()) - 2**31  # two scopes of one number wait for each other: no harm
    session.execute(text("SELECT pg_advisory_xact_lock_shared(:kind, 0)"), {"kind": _ALL})
    session.execute(text("SELECT pg_advisory_xact_lock(:kind, :one)"), {"kind": _SCOPED, "one": number})
