"""`bollard catalog …`: revisions of the tables, for people and programs."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from bollard.core.catalog import Catalog, revision
from bollard.core.catalog.snapshots import SnapshotEvent, SnapshotRecord
from bollard.core.catalog.transitions import history


@pytest.fixture
def url(home) -> str:
    """An empty database."""
    return f"sqlite:///{home}/catalog.db"


def test_upgrade_brings_an_empty_database_to_the_newest(bollard, url):
    """Before it has none, afterwards the newest; a second one changes nothing."""
    assert bollard("catalog", "current", "--url", url, "--json").json["current"] is None
    assert bollard("catalog", "upgrade", "--url", url, "--json").json == {
        "before": None,
        "after": revision.NEWEST,
    }
    assert bollard("catalog", "upgrade", "--url", url, "--json").json["before"] == revision.NEWEST
    assert bollard("catalog", "check", "--url", url).code == 0


def test_check_names_what_differs(bollard, url, home):
    """A table that somebody dropped; exit code 1."""
    bollard("catalog", "upgrade", "--url", url)
    with sqlite3.connect(home / "catalog.db") as connection:
        connection.execute("DROP TABLE grants")
    connection.close()
    done = bollard("catalog", "check", "--url", url, "--json")

    assert done.code == 1
    assert any("grants" in row["difference"] for row in done.json)


def test_url_is_of_the_environment_or_this_machines_own(bollard, home, monkeypatch):
    """$BOLLARD_CATALOG, else a file in the directory of the machine's state."""
    bollard("catalog", "upgrade")
    assert (home / "state" / "catalog.db").exists()
    monkeypatch.setenv("BOLLARD_CATALOG", f"sqlite:///{home}/elsewhere.db")
    assert bollard("catalog", "current", "--json").json["current"] is None


def test_history_is_in_order(bollard):
    """The oldest first, each with what it is about."""
    rows = bollard("catalog", "history", "--json").json

    assert rows[0]["revision"] == "0001"
    assert rows[-1]["revision"] == revision.NEWEST
    assert all(row["about"] for row in rows)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://bollard:hunter2secret@",
        "mysql://bollard:hunter2secret@db/bollard",
        "sqlite://",
        "hunter2secret",
        "postgresql://bollard:hunter2secret@127.0.0.1:1/bollard",
    ],
)
def test_password_is_in_no_message(bollard, url):
    """Neither of an address that cannot be read nor of a server that does not answer."""
    done = bollard("catalog", "current", "--url", url)

    assert done.code in (2, 6)
    assert "hunter2secret" not in done.out + done.err


def test_prune_forgets_what_is_old_and_nothing_else(bollard, url):
    """By age; the command may run while others work on the catalog."""
    _move(url, days_ago=100)
    _move(url, days_ago=50)
    _move(url, days_ago=1)
    assert bollard("catalog", "prune", "--url", url, "--days", "60", "--json").json == {"forgotten": 1}
    assert bollard("catalog", "prune", "--url", url, "--days", "60", "--json").json == {"forgotten": 0}
    with closing(Catalog(url)) as catalog, catalog.reading() as session:
        assert len(history(session, "snapshot", "s1")) == 2


def _move(url: str, days_ago: int) -> None:
    then = datetime.now(UTC) - timedelta(days=days_ago)
    with closing(Catalog(url, clock=lambda: then)) as catalog, catalog.transaction() as session:
        record = session.get(SnapshotRecord, "s1") or SnapshotRecord(id="s1", volume="v", created="now")
        session.add(record)
        record.take(SnapshotEvent.RESUMED)


def test_states_are_drawn(bollard):
    """In Mermaid's language; a kind that is not there is told which there are."""
    assert "stateDiagram-v2" in bollard("catalog", "states", "snapshot").out
    assert bollard("catalog", "states", "snapshots").code == 4
