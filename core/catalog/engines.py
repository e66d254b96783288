"""Connections to the database: SQLite in one file, or PostgreSQL.

    sqlite:////var/lib/bollard/catalog.db                       one machine
    postgresql://bollard@db-1/bollard                           a fleet; "postgresql+psycopg://" is the same

A password is better in PGPASSFILE or PGPASSWORD than in the URL; wherever it stands, it is in no message.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.engine import Connection
from sqlalchemy.exc import ArgumentError

from ..spi.errors import InvalidArgument, Unsupported

# How long a writer waits for another one. A transaction takes milliseconds: who holds it longer hangs.
BUSY_SECONDS = 30.0
STATEMENT_SECONDS = 60.0
_CONNECT_SECONDS = 10

READING = "bollard_reading"  # execution option: this transaction changes nothing


def parse_url(url: str) -> URL:
    """Return a database's address with the driver that is used for it.

    Raises:
        InvalidArgument: it is none, or one of a database that is not supported.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # Not chained: the exception may show the text, with its password.
        raise InvalidArgument(
            "the catalog's URL cannot be read: want sqlite:///PATH or postgresql://…"
        ) from None
    kind = parsed.get_backend_name()
    if kind == "sqlite":
        if parsed.database in (None, "", ":memory:"):
            raise InvalidArgument(
                "the catalog's URL names no file: a database in memory is each thread's own"
            )
        return parsed
    if kind in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    raise InvalidArgument(f"the catalog's URL names {kind!r}: want sqlite or postgresql")


def open_engine(url: URL) -> Engine:
    """Return an engine; it connects when it is first used.

    Raises:
        Unsupported: psycopg is not installed.
    """
    engine = _sqlite(url) if url.get_backend_name() == "sqlite" else _postgresql(url)
    event.listen(engine, "begin", _begin)
    return engine


def is_postgresql(engine: Engine | Connection) -> bool:
    """Tell which of the two it is."""
    return engine.dialect.name == "postgresql"


def _sqlite(url: URL) -> Engine:
    # pysqlite's own BEGIN, which "isolation_level" turns off, comes too late, and deferred.
    arguments = {"timeout": BUSY_SECONDS, "isolation_level": None}
    engine = create_engine(url, connect_args=arguments, hide_parameters=True)
    event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _postgresql(url: URL) -> Engine:
    timeouts = {
        "statement_timeout": STATEMENT_SECONDS,
        "lock_timeout": BUSY_SECONDS,
        # The server ends who stopped in the middle of a transaction: all others wait for him.
        "idle_in_transaction_session_timeout": STATEMENT_SECONDS,
    }
    arguments = {
        "options": " ".join(f"-c {name}={int(1000 * seconds)}" for name, seconds in timeouts.items()),
        "connect_timeout": _CONNECT_SECONDS,
        "application_name": "bollard",
        "tcp_user_timeout": int(1000 * BUSY_SECONDS),  # else a host that vanished is noticed after 15 minutes
    }
    try:
        return create_engine(
            url,
            connect_args=arguments,
            hide_parameters=True,
            pool_pre_ping=True,
            pool_size=8,
            max_overflow=24,
        )
    except ImportError as error:
        raise Unsupported("a catalog on PostgreSQL needs psycopg: pip install bollard[postgresql]") from error


def _prepare_sqlite(connection: Any, _record: object) -> None:
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    """Let writers take turns from the first statement on: what they read is what they decide on."""
    reading = connection.get_execution_options().get(READING, False)
    if not is_postgresql(connection):
        connection.exec_driver_sql(f"PRAGMA query_only = {'ON' if reading else 'OFF'}")
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
