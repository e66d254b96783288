"""The shape of the tables, by revisions: Alembic's, in `migrations`.

    empty, or made before there were revisions   SQLite: brought to the newest    PostgreSQL: refused
    older than this Bollard                      SQLite: brought to the newest    PostgreSQL: refused
    newer                                        refused by both

A fleet's database is upgraded by a person, once (`bollard catalog upgrade`): the orchestrators of the
older version that still run on it must be stopped first. Revision 0001 makes what is not there, so it
fits what Bollard made before it had revisions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from ..spi.errors import Conflict
from .base import Base
from .engines import is_postgresql
from .revision import NEWEST, current, reading

# Modules of `bollard.core` with tables; a test finds those that are missing here.
TABLES = (
    ".catalog.transitions",
    ".catalog.volumes",
    ".catalog.places",
    ".catalog.holds",
    ".catalog.snapshots",
    ".catalog.vm_snapshots",
    ".catalog.intents",
    ".catalog.works",
    ".jobs.table",
    ".catalog.outbox",
    ".event_stream.tables",
    ".service.snapshots_tables",
)

_UPGRADE = "stop all orchestrators of the older version, then run `bollard catalog upgrade`"


def prepare(engine: Engine) -> None:
    """See to it that the tables are those that this version works with.

    Raises:
        Conflict: they are not, and must not be changed without a person.
    """
    with reading(engine) as connection:
        found = current(connection)
    if found == NEWEST:
        return
    if is_postgresql(engine) and (found is None or known(found)):
        what = f"has revision {found}" if found else "has no tables of this version"
        raise Conflict(f"the catalog's database {what}, and {NEWEST} is needed: {_UPGRADE}")
    upgrade(engine)


def upgrade(engine: Engine, to: str = "head") -> str:
    """Bring the tables to a revision, all or nothing; return the newest. Repeatable, by several at once.

    Raises:
        Conflict: they are newer than this version knows.
    """
    with engine.begin() as connection:
        if is_postgresql(engine):  # SQLite has one writer anyway
            connection.execute(text("SELECT pg_advisory_xact_lock(1651469420, 1)"))
        found = current(connection)
        if found is not None and not known(found):
            raise Conflict(
                f"the catalog has revision {found}, and Bollard knows {NEWEST} at most; use a newer one"
            )
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, to)
    return NEWEST


def known(revision: str) -> bool:
    """Tell whether this version knows a revision."""
    return revision in {number for number, _ in revisions()}


def revisions() -> Sequence[tuple[str, str]]:
    """Return all revisions, oldest first, with what each is about."""
    return [(script.revision, script.doc) for script in reversed(list(_scripts().walk_revisions()))]


def differences(connection: Connection) -> list[str]:
    """Return in which ways the tables are not those that the code declares."""
    for module in TABLES:
        import_module(module, __package__.rpartition(".")[0])
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return [_told(difference) for difference in compare_metadata(context, Base.metadata)]


def _told(difference: Any) -> str:
    if isinstance(difference, list):  # of one column
        return "; ".join(_told(one) for one in difference)
    return " ".join(str(part) for part in difference if part is not None)


def _config() -> Config:
    config = Config()
    # Not "bollard:…": a path needs no importlib.resources, and `%` in it would be Alembic's.
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    return config


@cache
def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())
