"""Revision 0006: the role in the key of `object_refs`, with rows that were there before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from alembic import command
from sqlalchemy import Engine, event, inspect, text
from sqlalchemy.exc import IntegrityError

from bollard.core.catalog import revision, schema
from bollard.core.catalog.engines import open_engine, parse_url

pytest_plugins = ["catalog_fixture"]

BEFORE, AFTER = "0005b", "0006"
ROWS = [
    (3, "template", "t-1", "gold", "Primary", "t-1", "Ready"),
    (4, "template", "t-1", "nightly", "Image", "t-1", "Destroying"),
    (9, "volume", "t-1", "nightly", "Image", "v1/t-1", "Ready"),
]


@pytest.fixture
def engine(catalog_url: str) -> Iterator[Engine]:
    """A database as it was before, with rows; PostgreSQL's comes with the newest tables, which are empty."""
    opened = open_engine(parse_url(catalog_url))
    schema.upgrade(opened, BEFORE)
    with revision.reading(opened) as connection:
        newer = revision.current(connection) != BEFORE
    if newer:
        _downgrade(opened, BEFORE)
    with opened.begin() as connection:
        for row in ROWS:
            _insert(connection, *row)
    yield opened
    opened.dispose()


def _downgrade(engine: Engine, to: str) -> None:
    with engine.begin() as connection:
        config = schema._config()  # what `upgrade` uses; nobody goes back but by hand
        config.attributes["connection"] = connection
        command.downgrade(config, to)


def _insert(connection, *row) -> None:
    names = ("id", "kind", "object", "store", "role", "path", "state")
    values = dict(zip(names, row, strict=True)) | {"created": "now", "size": 2**40, "physical_size": 7}
    columns, slots = ", ".join(values), ", ".join(f":{name}" for name in values)
    connection.execute(text(f"INSERT INTO object_refs ({columns}) VALUES ({slots})"), values)  # noqa: S608 - constants


def _rows(engine: Engine) -> list[tuple[object, ...]]:
    chosen = "SELECT id, kind, object, store, role, path, state FROM object_refs ORDER BY id"
    with revision.reading(engine) as connection:
        return [tuple(row) for row in connection.execute(text(chosen))]


def _revision(engine: Engine) -> str | None:
    with revision.reading(engine) as connection:
        return revision.current(connection)


def test_all_rows_come_along(engine):
    """With their ids, which their history names; and the tables are those that the code declares."""
    schema.upgrade(engine)
    assert _rows(engine) == ROWS
    with revision.reading(engine) as connection:
        assert schema.differences(connection) == []
        assert connection.execute(text("SELECT max(size) FROM object_refs")).scalar() == 2**40
    indexes = {one["name"] for one in inspect(engine).get_indexes("object_refs")}
    assert {"object_refs_store", "object_refs_unfinished"} <= indexes


def test_a_pool_and_a_store_of_one_name_have_rows_of_their_own(engine):
    """Which the older key refused; a second one of a role is refused by both."""
    shared = (20, "template", "t-1", "nightly", "Primary", "t-1", "Ready")
    with pytest.raises(IntegrityError), engine.begin() as connection:
        _insert(connection, *shared)
    schema.upgrade(engine)
    with engine.begin() as connection:
        _insert(connection, *shared)
    with pytest.raises(IntegrityError), engine.begin() as connection:
        _insert(connection, 21, *shared[1:])
    with pytest.raises(ValueError, match="t-1 is on a pool and on a store that are both called 'nightly'"):
        _downgrade(engine, BEFORE)
    assert _rows(engine) == [*ROWS, shared]
    assert _revision(engine) == AFTER


def test_down_and_up_again(engine):
    """Nothing is lost on the way."""
    schema.upgrade(engine)
    _downgrade(engine, BEFORE)
    assert _revision(engine) == BEFORE
    with pytest.raises(IntegrityError), engine.begin() as connection:
        _insert(connection, 20, "template", "t-1", "nightly", "Primary", "t-1", "Ready")
    schema.upgrade(engine)
    assert _rows(engine) == ROWS


class Died(Exception):
    """The upgrade goes no further."""


def test_one_that_breaks_off_has_changed_nothing(engine):
    """SQLite's table is copied: a process that dies in between leaves the old one, and no copy."""

    def dies(_connection, _cursor, statement, *_) -> None:
        if "DROP" in statement and "object_refs" in statement:
            raise Died

    event.listen(engine, "before_cursor_execute", dies)
    with pytest.raises(Died):
        schema.upgrade(engine)
    event.remove(engine, "before_cursor_execute", dies)
    assert _rows(engine) == ROWS
    assert _revision(engine) == BEFORE
    assert [one for one in inspect(engine).get_table_names() if "tmp" in one] == []
    schema.upgrade(engine)
    assert _rows(engine) == ROWS
