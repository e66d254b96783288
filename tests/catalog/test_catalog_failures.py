"""What a database does to us, in the words of the taxonomy, with the outcome that is true."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Iterator
from contextlib import closing

import pytest
from psycopg import sql
from sqlalchemy import make_url, text

from bollard.core.catalog import Catalog, Contended, engines
from bollard.core.catalog.places import HostRecord
from bollard.core.spi import (
    Internal,
    NotFound,
    Outcome,
    OutOfCapacity,
    PermissionDenied,
    StorageError,
    Unauthenticated,
    Unavailable,
)
from commit_cutter import CommitCutter
from postgres import PASSWORD

pytest_plugins = ["catalog_fixture"]


def hosts(catalog: Catalog) -> list[str]:
    """What is durable."""
    with catalog.reading() as session:
        return sorted(host.id for host in session.query(HostRecord))


def add(catalog: Catalog, name: str, then: str = "") -> None:
    """Write one row, and run a statement after it."""
    with catalog.transaction() as session:
        session.add(HostRecord(id=name, name=name))
        session.flush()
        if then:
            session.execute(text(then))


@pytest.fixture
def on_postgresql(postgresql_url) -> Iterator[Catalog]:
    """A catalog there."""
    with closing(Catalog(postgresql_url)) as opened:
        yield opened


CODES = {
    "40001": Contended,
    "40P01": Contended,
    "55P03": Contended,
    "57014": Contended,
    "53100": OutOfCapacity,
    "42501": PermissionDenied,
    "42P01": Internal,
    "XX000": Internal,
}


@pytest.mark.real
@pytest.mark.parametrize("code", CODES)
def test_what_postgresql_says_before_commit_is_not_applied(on_postgresql, code):
    """Each code has its error, and nothing of the transaction is there."""
    with pytest.raises(CODES[code]) as caught:
        add(on_postgresql, "h1", then=f"DO $$ BEGIN RAISE SQLSTATE '{code}'; END $$")

    assert caught.value.outcome is Outcome.NOT_APPLIED
    assert hosts(on_postgresql) == []


@pytest.mark.real
def test_what_postgresql_refuses_in_commit_is_not_applied(on_postgresql):
    """A rule that is looked at in COMMIT: that is an answer, too."""
    with on_postgresql.transaction() as session:
        session.execute(
            text("ALTER TABLE hosts ADD CONSTRAINT late UNIQUE (zone) DEFERRABLE INITIALLY DEFERRED")
        )
    add(on_postgresql, "h1")
    with pytest.raises(StorageError) as caught:
        add(on_postgresql, "h2")

    assert caught.value.outcome is Outcome.NOT_APPLIED
    assert hosts(on_postgresql) == ["h1"]


@pytest.mark.real
def test_deadlock_is_nobodys_end(on_postgresql):
    """Of two that wait for each other one is sent back, and does it again: both are done."""
    for name in ("h1", "h2"):
        add(on_postgresql, name)
    mark = text("UPDATE hosts SET zone = zone || :who WHERE id = :id")
    both = threading.Barrier(2)
    tries: list[str] = []

    def rename(first: str, second: str) -> None:
        def work(session) -> None:
            tries.append(first)
            session.execute(text("SET LOCAL deadlock_timeout = '20ms'"))
            session.execute(mark, {"who": first, "id": first})
            if len(tries) <= 2:
                both.wait(10)
            session.execute(mark, {"who": first, "id": second})

        on_postgresql.run(work, scope=f"host:{first}")

    threads = [threading.Thread(target=rename, args=pair) for pair in (("h1", "h2"), ("h2", "h1"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    with on_postgresql.reading() as session:
        zones = [host.zone for host in session.query(HostRecord)]

    assert len(tries) == 3
    assert [len(zone) for zone in zones] == [4, 4]


@pytest.mark.real
def test_connection_that_breaks_before_commit_leaves_nothing(on_postgresql, postgres, postgresql_url):
    """The server has rolled back; the next transaction gets a new connection."""
    with pytest.raises(Unavailable) as caught:
        _killed_in_the_middle(on_postgresql, postgres, postgresql_url)

    assert caught.value.outcome is Outcome.NOT_APPLIED
    assert hosts(on_postgresql) == []


def _killed_in_the_middle(catalog, postgres, url) -> None:
    kill = sql.SQL("SELECT pg_terminate_backend({})")
    with catalog.transaction() as session:
        session.add(HostRecord(id="h1", name="h1"))
        session.flush()
        postgres.execute(kill.format(sql.Literal(session.scalar(text("SELECT pg_backend_pid()")))))
        session.add(HostRecord(id="h2", name="h2"))
        session.flush()


@pytest.fixture
def cutter(postgres) -> Iterator[CommitCutter]:
    """A wire that can be cut."""
    with closing(CommitCutter(postgres.port)) as opened:
        yield opened


@pytest.mark.real
@pytest.mark.parametrize(("answered", "durable"), [(False, []), (True, ["h1"])])
def test_connection_that_breaks_in_commit_leaves_it_open(postgresql_url, cutter, answered, durable):
    """Nobody can say from here whether the server has had the COMMIT: unknown is the only true word."""
    with closing(Catalog(_through(postgresql_url, cutter))) as catalog:
        cutter.armed, cutter.answered = True, answered
        with pytest.raises(Unavailable) as caught:
            add(catalog, "h1")
        assert caught.value.outcome is Outcome.UNKNOWN
        assert hosts(catalog) == durable


def _through(url: str, cutter: CommitCutter) -> str:
    return make_url(url).set(port=cutter.port).render_as_string(hide_password=False)


@pytest.mark.real
def test_statement_that_takes_too_long_is_ended(postgresql_url, monkeypatch):
    """By the server, which goes on with others."""
    monkeypatch.setattr(engines, "STATEMENT_SECONDS", 0.05)
    with closing(Catalog(postgresql_url)) as catalog:
        with pytest.raises(Contended, match="too long"):
            add(catalog, "h1", then="SELECT pg_sleep(10)")
        assert hosts(catalog) == []


@pytest.mark.real
def test_client_that_hangs_in_a_transaction_loses_it(postgresql_url, on_postgresql, monkeypatch):
    """All others wait for its lock: the server ends it, and it is told that nothing was applied."""
    monkeypatch.setattr(engines, "STATEMENT_SECONDS", 0.05)
    ended: list[StorageError] = []
    begun = threading.Event()
    with closing(Catalog(postgresql_url)) as hanging:

        def hang() -> None:
            try:
                with hanging.transaction() as session:
                    session.add(HostRecord(id="h1", name="h1"))
                    session.flush()
                    begun.set()
                    add(on_postgresql, "h2")  # it has the lock when the server has ended this one
                    session.add(HostRecord(id="h3", name="h3"))
            except StorageError as error:
                ended.append(error)

        hang()
        assert begun.is_set()

    assert [(type(error), error.outcome) for error in ended] == [(Contended, Outcome.NOT_APPLIED)]
    assert hosts(on_postgresql) == ["h2"]


@pytest.mark.real
def test_server_that_cannot_be_used_says_why(postgres, postgresql_url):
    """Wrong password, no such database, nobody there: each has its error, and nothing was applied."""
    gone = make_url(postgresql_url)
    for url, kind in (
        (gone.set(password="made-up-wrong"), Unauthenticated),
        (gone.set(database="nowhere"), NotFound),
        (gone.set(port=1), Unavailable),
    ):
        with pytest.raises(kind) as caught:
            Catalog(url.render_as_string(hide_password=False))
        assert caught.value.outcome is Outcome.NOT_APPLIED


@pytest.mark.real
def test_password_is_nowhere(postgres, postgresql_url, on_postgresql, caplog):
    """Not in what is printed of a catalog or an error, with all that led to it, and in no log."""
    caplog.set_level(logging.DEBUG)
    shown = [repr(on_postgresql)]
    for act in (
        lambda: _killed_in_the_middle(on_postgresql, postgres, postgresql_url),
        lambda: Catalog(postgresql_url.replace(PASSWORD, f"{PASSWORD}-wrong")),
        lambda: Catalog(str(make_url(postgresql_url).set(port=1).render_as_string(hide_password=False))),
        lambda: Catalog(postgresql_url.replace("postgresql+psycopg", "oracle")),
        lambda: add(on_postgresql, "h1", then="SELECT * FROM nowhere"),
    ):
        with pytest.raises(StorageError) as caught:
            act()
        shown += traceback.format_exception(caught.value)
        shown.append(str(caught.value.to_json()) + caught.value.detail)

    assert PASSWORD not in "".join(shown) + caplog.text
    assert "bollard:***@" in shown[0]


def test_full_disk_of_sqlite_is_out_of_capacity(tmp_path):
    """What does not fit is not applied; the catalog goes on with what is there."""
    with closing(Catalog(f"sqlite:///{tmp_path}/catalog.db")) as catalog:
        add(catalog, "h1")
        with pytest.raises(OutOfCapacity) as caught:
            _fill_up(catalog)
        assert caught.value.outcome is Outcome.NOT_APPLIED
        assert hosts(catalog) == ["h1"]


def _fill_up(catalog: Catalog) -> None:
    with catalog.transaction() as session:
        session.execute(text("PRAGMA max_page_count = 1"))  # as many as it has
        session.add_all(HostRecord(id=f"{n}", name="x" * 200 + str(n)) for n in range(2000))
