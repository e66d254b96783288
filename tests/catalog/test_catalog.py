"""The catalog: transactions that are all or nothing, one writer at a time."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest
from sqlalchemy import text

from bollard.core.catalog import Catalog, Contended, engines
from bollard.core.catalog.snapshots import SnapshotRecord
from bollard.core.spi import Busy, Conflict, Internal, Outcome

pytest_plugins = ["catalog_fixture"]


def record(name: str, volume: str = "v") -> SnapshotRecord:
    """A snapshot that is being made."""
    return SnapshotRecord(id=name, volume=volume, created="2026-11-21T12:00:00.000+00:00")


def names(catalog: Catalog) -> list[str]:
    """What another transaction sees."""
    with catalog.transaction() as session:
        return sorted(one.id for one in session.query(SnapshotRecord))


def names_elsewhere(url: str) -> list[str]:
    """What another process that opens the database sees."""
    with closing(Catalog(url)) as other:
        return names(other)


def test_what_was_committed_is_there_after_a_restart(catalog, catalog_url):
    """Another process that opens the database sees it."""
    with catalog.transaction() as session:
        session.add(record("s1"))
    catalog.close()

    assert names_elsewhere(catalog_url) == ["s1"]


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


def test_writers_take_turns(catalog, catalog_url):
    """A second transaction begins when the first has ended, and sees what it wrote."""
    seen: list[list[str]] = []
    begun = threading.Event()

    def second() -> None:
        begun.set()
        seen.append(names_elsewhere(catalog_url))

    with catalog.transaction() as session:
        thread = threading.Thread(target=second)
        thread.start()
        assert begun.wait(10)
        session.add(record("s1"))
    thread.join(30)

    assert seen == [["s1"]]


def test_database_that_stays_locked_is_busy(catalog, catalog_url, monkeypatch):
    """Another process that hangs in a transaction: not applied, try again."""
    monkeypatch.setattr(engines, "BUSY_SECONDS", 0.05)
    with (
        closing(Catalog(catalog_url)) as impatient,
        catalog.transaction(),
        pytest.raises(Busy) as caught,
        impatient.transaction(),
    ):
        pytest.fail("two at once")

    assert caught.value.outcome is Outcome.NOT_APPLIED


@pytest.mark.parametrize("statement", ["SELECT * FROM nowhere", "INSERT INTO"])
def test_database_errors_are_internal(catalog, statement):
    """What the database says ends in the taxonomy; before COMMIT nothing can have been applied."""

    def failing() -> None:
        with catalog.transaction() as session:
            session.add(record("s1"))
            session.flush()
            session.execute(text(statement))

    with pytest.raises(Internal) as caught:
        failing()
    assert caught.value.outcome is Outcome.NOT_APPLIED
    assert names(catalog) == []


def test_reader_waits_for_no_writer(catalog):
    """It sees what was committed before, as of one instant, while somebody writes."""
    with catalog.transaction() as session:
        session.add(record("s1"))
    with catalog.transaction() as writing, catalog.reading() as reading:
        writing.add(record("s2", volume="other"))
        writing.flush()
        assert [one.id for one in reading.query(SnapshotRecord)] == ["s1"]


def test_reader_may_not_write(catalog):
    """What is read without waiting is not what anything may be decided on."""
    with pytest.raises(Internal), catalog.reading() as session:
        session.add(record("s1"))

    assert names(catalog) == []


@pytest.mark.real
def test_writers_of_two_scopes_work_at_the_same_time_on_postgresql(postgresql_url, monkeypatch):
    """Each decides on an object of its own; whoever decides on all waits for both."""
    monkeypatch.setattr(engines, "BUSY_SECONDS", 0.05)
    with closing(Catalog(postgresql_url)) as catalog:
        with catalog.transaction(scope="volume:a"), catalog.transaction(scope="volume:b"):
            pass
        for first, second in (("volume:a", "volume:a"), ("volume:a", ""), ("", "volume:a")):
            assert not _together(catalog, first, second)


def _together(catalog: Catalog, first: str, second: str) -> bool:
    """Tell whether a transaction can begin while another one is open."""
    with catalog.transaction(scope=first):
        try:
            with catalog.transaction(scope=second) as session:
                return session.is_active
        except Busy:
            return False


def test_work_is_done_again_while_another_was_in_the_way(catalog):
    """Each time from the beginning; what a try before wrote is undone."""
    tries: list[int] = []

    def work(session):
        tries.append(len(tries))
        session.add(record(f"s{len(tries)}"))
        session.flush()
        if len(tries) < 3:
            raise Contended("in the way")
        return "done"

    assert catalog.run(work) == "done"
    assert names(catalog) == ["s3"]


def test_work_that_refuses_is_done_once(catalog):
    """Busy because of a rule is an answer, and not a reason to ask again."""
    tries = []

    def work(_session):
        tries.append(1)
        raise Busy("a snapshot of the volume is being made")

    with pytest.raises(Busy):
        catalog.run(work)

    assert tries == [1]
