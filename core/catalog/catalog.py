"""The database of an orchestrator's storage objects, as transactions.

    with catalog.transaction() as session:      BEGIN IMMEDIATE ... COMMIT, or ROLLBACK on any exception
        ...

One writer at a time: two orchestrators that decide on one chain take turns, and none decides on what the
other is about to change. SQLAlchemy because everybody knows it and PostgreSQL is then one URL away.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Session

from ..spi.errors import Busy, Conflict, Internal, Outcome

_BUSY_SECONDS = 30.0


class Base(DeclarativeBase):
    """Of all tables."""


class Catalog:
    """An open database; safe for threads, each transaction is one thread's.

    Args:
        url: SQLAlchemy's, such as "sqlite:///<path>". Not SQLite in memory: each thread would see its own.
    """

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        Base.metadata.create_all(self._engine)

    def close(self) -> None:
        """Close all connections; repeatable."""
        self._engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Yield a session; what it changed is durable when the block ends, or undone if it raised.

        Raises:
            Busy: another process kept the database locked for half a minute (not applied).
            Conflict: another process was first to write what a rule allows only once (not applied).
            Internal: the database failed; whether a commit took effect is unknown.
        """
        with Session(self._engine, expire_on_commit=False) as session:
            try:
                with session.begin():
                    session.connection()
                    yield session
            except OperationalError as error:
                if "locked" in str(error.orig):
                    raise Busy("the catalog is locked by another process") from error
                raise Internal("the catalog failed", outcome=Outcome.UNKNOWN) from error
            except IntegrityError as error:
                raise Conflict("another process was first") from error
            except SQLAlchemyError as error:
                raise Internal("the catalog failed", outcome=Outcome.UNKNOWN) from error


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return create_engine(url)
    # pysqlite's own BEGIN, which "isolation_level" turns off, comes too late, and deferred.
    engine = create_engine(url, connect_args={"timeout": _BUSY_SECONDS, "isolation_level": None})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_immediate(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
