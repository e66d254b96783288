"""The catalog: transactions that are all or nothing, one writer at a time."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import text

from bollard.core.catalog import Catalog
from bollard.core.catalog import catalog as catalog_module
from bollard.core.catalog.snapshots import SnapshotRecord
from bollard.core.spi import Busy, Conflict, Internal, Outcome


@pytest.fixture
def url(tmp_path) -> str:
    """A new database."""
    return f"sqlite:///{tmp_path}/catalog.db"


@pytest.fixture
def catalog(url):
    """It, opened."""
    opened = Catalog(url)
    yield opened
    opened.close()


def record(name: str, volume: str = "v") -> SnapshotRecord:
    """A snapshot that is being made."""
    return SnapshotRecord(id=name, volume=volume, created="2026-11-21T12:00:00.000+00:00")


def names(catalog: Catalog) -> list[str]:
    """What another transaction sees."""
    with catalog.transaction() as session:
        return sorted(one.id for one in session.query(SnapshotRecord))


def test_what_was_committed_is_there_after_a_restart(catalog, url):
    """Another process that opens the database sees it."""
    with catalog.transaction() as session:
        session.add(record("s1"))
    catalog.close()

    assert names(Catalog(url)) == ["s1"]


def test_exception_undoes_all_of_it(catalog):
    """Nothing of a block that raised is seen by anybody."""

    def failing() -> None:
        with catalog.transaction() as session:
            session.add(record("s1"))
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        failing()
    assert names(catalog) == []


def test_one_snapshot_of_a_volume_is_made_at_a_time(catalog):
    """The database itself refuses a second Creating one of the same volume; nothing is written."""
    with catalog.transaction() as session:
        session.add(record("s1"))
        session.add(record("s2", volume="other"))
    with pytest.raises(Conflict), catalog.transaction() as session:
        session.add(record("s3"))

    assert names(catalog) == ["s1", "s2"]


def test_writers_take_turns(catalog, url):
    """A second transaction begins when the first has ended, and sees what it wrote."""
    seen: list[list[str]] = []
    begun = threading.Event()

    def second() -> None:
        begun.set()
        seen.append(names(Catalog(url)))

    with catalog.transaction() as session:
        thread = threading.Thread(target=second)
        thread.start()
        assert begun.wait(10)
        session.add(record("s1"))
    thread.join(30)

    assert seen == [["s1"]]


def test_database_that_stays_locked_is_busy(catalog, url, monkeypatch):
    """Another process that hangs in a transaction: not applied, try again."""
    monkeypatch.setattr(catalog_module, "_BUSY_SECONDS", 0.05)
    impatient = Catalog(url)
    with catalog.transaction(), pytest.raises(Busy) as caught, impatient.transaction():
        pytest.fail("two at once")

    assert caught.value.outcome is Outcome.NOT_APPLIED


@pytest.mark.parametrize("statement", ["SELECT * FROM nowhere", "INSERT INTO"])
def test_database_errors_are_internal(catalog, statement):
    """What the database says ends in the taxonomy; the outcome is not guessed."""
    with pytest.raises(Internal) as caught, catalog.transaction() as session:
        session.execute(text(statement))

    assert caught.value.outcome is Outcome.UNKNOWN
