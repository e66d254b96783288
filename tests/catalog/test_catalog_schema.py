"""Revisions: every way to a database's tables ends at those that the code declares."""

from __future__ import annotations

import importlib
import pkgutil
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from sqlalchemy import create_engine, inspect, text

import bollard.core
from bollard.core.catalog import Base, Catalog, revision, schema
from bollard.core.catalog.engines import open_engine, parse_url
from bollard.core.catalog.snapshots import Ref, SnapshotRecord
from bollard.core.spi import Conflict
from bollard.transfer_objects.enums import DataStoreRole

pytest_plugins = ["catalog_fixture"]


@pytest.fixture
def engine(catalog_url):
    """An engine on a database; PostgreSQL's has the tables already."""
    opened = open_engine(parse_url(catalog_url))
    schema.upgrade(opened)
    yield opened
    opened.dispose()


def test_upgraded_tables_are_those_that_the_code_declares(engine):
    """Each revision is complete: types, indexes and constraints, on each kind of database."""
    with revision.reading(engine) as connection:
        assert revision.current(connection) == revision.NEWEST
        assert schema.differences(connection) == []


def test_difference_is_found(engine):
    """A lost index and a lost table are named."""
    with engine.begin() as connection:
        connection.execute(text("DROP INDEX ix_snapshot_refs_volume"))
        connection.execute(text("DROP TABLE vm_snapshot_member"))
    with revision.reading(engine) as connection:
        told = "\n".join(schema.differences(connection))

    assert "ix_snapshot_refs_volume" in told
    assert "vm_snapshot_member" in told


def test_all_modules_with_tables_are_known():
    """The comparison sees all tables of the package: none is declared in a module that `TABLES` lacks."""
    for module in pkgutil.walk_packages(bollard.core.__path__, "bollard.core."):
        if ".migrations" not in module.name:
            importlib.import_module(module.name)
    modules = {mapper.class_.__module__.removeprefix("bollard.core") for mapper in Base.registry.mappers}

    assert modules == set(schema.TABLES)


def test_upgrade_is_repeatable(engine):
    """A second one changes nothing."""
    before = inspect(engine).get_table_names()
    assert schema.upgrade(engine) == revision.NEWEST
    assert inspect(engine).get_table_names() == before


# A database as Bollard made it before there were revisions, by SQLAlchemy 2.1's create_all; of a process that
# knew volume snapshots only. Written out: the code's tables have changed since.
OLD = """
CREATE TABLE volume_snapshots (
    id VARCHAR NOT NULL, volume VARCHAR NOT NULL, created VARCHAR NOT NULL, state VARCHAR(80) NOT NULL,
    size INTEGER NOT NULL, error VARCHAR NOT NULL, frozen_seconds DOUBLE NOT NULL, PRIMARY KEY (id));
CREATE INDEX ix_volume_snapshots_volume ON volume_snapshots (volume);
CREATE UNIQUE INDEX volume_snapshots_one_creating ON volume_snapshots (volume) WHERE state = 'Creating';
CREATE TABLE snapshot_refs (
    id INTEGER NOT NULL, snapshot VARCHAR NOT NULL, volume VARCHAR NOT NULL, store VARCHAR NOT NULL,
    role VARCHAR(80) NOT NULL, path VARCHAR NOT NULL, state VARCHAR(80) NOT NULL, parent INTEGER,
    checkpoint VARCHAR NOT NULL, checkpoint_path VARCHAR NOT NULL, tracking BOOLEAN NOT NULL,
    backing_up BOOLEAN NOT NULL, end_of_chain BOOLEAN NOT NULL, end_reason VARCHAR(80),
    full_reason VARCHAR(80), size INTEGER NOT NULL, physical_size INTEGER NOT NULL, PRIMARY KEY (id),
    FOREIGN KEY(snapshot) REFERENCES volume_snapshots (id),
    FOREIGN KEY(parent) REFERENCES snapshot_refs (id));
CREATE INDEX ix_snapshot_refs_parent ON snapshot_refs (parent);
CREATE INDEX ix_snapshot_refs_snapshot ON snapshot_refs (snapshot);
CREATE INDEX ix_snapshot_refs_volume ON snapshot_refs (volume);
INSERT INTO volume_snapshots VALUES ('s1', 'v1', '2026-11-21T12:00:00.000+00:00', 'BackedUp', 512, '', 0.0);
"""


def _make_old(url: str) -> None:
    engine = create_engine(parse_url(url))
    with engine.begin() as connection:
        for statement in filter(str.strip, OLD.split(";")):
            connection.execute(text(statement))
    engine.dispose()


def test_catalog_of_the_time_before_revisions_is_kept(tmp_path):
    """What Bollard wrote then is there after the upgrade, which whoever opens it makes."""
    url = f"sqlite:///{tmp_path}/old.db"
    _make_old(url)
    with closing(Catalog(url)) as catalog, catalog.transaction() as session:
        record = session.get_one(SnapshotRecord, "s1")
        assert (record.volume, record.size, record.state) == ("v1", 512, "BackedUp")
    with revision.reading(open_engine(parse_url(url))) as connection:
        assert revision.current(connection) == revision.NEWEST
        assert schema.differences(connection) == []


@pytest.mark.real
def test_empty_postgresql_is_refused_with_what_to_run(postgres):
    """A wrong URL does not become a catalog; nothing is made there."""
    url = postgres.url("empty")
    with pytest.raises(Conflict, match="bollard catalog upgrade") as caught:
        Catalog(url)
    engine = open_engine(parse_url(url))
    assert inspect(engine).get_table_names() == []
    engine.dispose()

    assert "no tables of this version" in caught.value.message


@pytest.mark.real
def test_older_postgresql_is_refused_until_it_is_upgraded(postgres):
    """Orchestrators of the older version may still work on it: a person decides."""
    url = postgres.url("older")
    engine = open_engine(parse_url(url))
    schema.upgrade(engine, "0001")
    with pytest.raises(Conflict, match="has revision 0001"):
        Catalog(url)
    schema.upgrade(engine)
    engine.dispose()

    Catalog(url).close()


def test_older_sqlite_is_upgraded_when_it_is_opened(tmp_path):
    """One machine's catalog has no other users."""
    url = f"sqlite:///{tmp_path}/older.db"
    engine = open_engine(parse_url(url))
    schema.upgrade(engine, "0001")
    Catalog(url).close()
    with revision.reading(engine) as connection:
        assert revision.current(connection) == revision.NEWEST


def test_newer_tables_are_refused(engine, catalog_url):
    """An older Bollard does not touch what it does not understand."""
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Conflict, match="use a newer one"):
        Catalog(catalog_url)
    with pytest.raises(Conflict, match="use a newer one"):
        schema.upgrade(engine)


def test_snapshots_may_be_larger_than_2_gib(catalog):
    """Sizes are whole on each database: PostgreSQL's INTEGER would end at 2 GiB."""
    with catalog.transaction() as session:
        session.add(SnapshotRecord(id="s1", volume="v", created="now", size=2**50))
        session.flush()
        session.add(
            Ref(
                snapshot="s1",
                volume="v",
                store="x",
                role=DataStoreRole.PRIMARY,
                path="p",
                size=2**50,
                physical_size=2**49,
            )
        )
    with catalog.reading() as session:
        assert session.get_one(SnapshotRecord, "s1").size == 2**50
        assert session.query(Ref.physical_size).scalar() == 2**49


def test_revisions_are_a_line():
    """Each follows one other, so that there is one newest; and each says what it is about."""
    numbers = [number for number, about in schema.revisions() if about]
    assert numbers == sorted(numbers)
    assert numbers[0] == "0001"
    assert numbers[-1] == revision.NEWEST


def test_indexes_of_the_unfinished_hold_all_transient_states(engine):
    """Alembic does not compare the conditions of indexes: a state that is missing would make a sync slow."""
    found = inspect(engine)
    for table in Base.metadata.sorted_tables:
        for index in table.indexes:
            if str(index.name).endswith("_unfinished"):
                [there] = [one for one in found.get_indexes(table.name) if one["name"] == index.name]
                where = there["dialect_options"][f"{engine.dialect.name}_where"]
                assert _words(where) == _words(index.dialect_options["sqlite"]["where"])


def _words(condition: object) -> set[str]:
    return set(re.findall(r"'([A-Za-z]+)'", str(condition)))


def test_many_may_open_a_new_catalog_at_the_same_time(tmp_path):
    """All get it, with its tables made once."""
    url, ready = f"sqlite:///{tmp_path}/new.db", threading.Barrier(4)

    def open_it() -> str | None:
        ready.wait(10)
        with closing(Catalog(url)) as catalog, catalog.reading() as session:
            return revision.current(session.connection())

    with ThreadPoolExecutor(4) as pool:
        found = [future.result(60) for future in [pool.submit(open_it) for _ in range(4)]]

    assert found == [revision.NEWEST] * 4
