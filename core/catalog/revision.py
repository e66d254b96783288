"""Which revision of the tables a database has: what each start asks, without Alembic.

Alembic costs 0.25 s of CPU to import, as much again with the revisions' modules: that is paid once per
database, by `schema`, and not by every command.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, inspect, text

from .engines import READING

NEWEST = "0006"
"""The newest revision of `migrations`; a test compares them."""


def current(connection: Connection) -> str | None:
    """Return the revision of a database's tables, as Alembic has written it; None if it has none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(
        text("SELECT version_num FROM alembic_version")
    ).scalar_one_or_none()
    return found


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Yield a connection that changes nothing and waits for no writer."""
    with engine.connect().execution_options(**{READING: True}) as connection, connection.begin():
        yield connection
