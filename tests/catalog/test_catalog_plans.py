"""How the databases find what is asked for: by an index, never by looking at every row.

No times: what a statement looks at is the same on a busy machine. PostgreSQL counts the rows itself;
SQLite says how it goes about it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from bollard.core.catalog import Catalog
from bollard.core.catalog.paging import page, unfinished
from bollard.core.catalog.snapshot_states import SNAPSHOTS
from bollard.core.catalog.snapshots import REFS, Ref, SnapshotRecord, refs_of_volume, snapshot_of
from bollard.core.catalog.transitions import history, prune
from bollard.core.catalog.volume_states import VOLUMES
from bollard.core.catalog.volumes import VolumeRecord
from catalog_filling import UNFINISHED, fill

pytest_plugins = ["catalog_fixture"]

VMS = 400  # 2,000 volumes, 20,000 snapshots: enough that no plan looks at all of them to be quick
LIMIT = 50

# What is asked, and how many rows may be looked at for it, of 20,000.
ASKED: dict[str, tuple[Callable[[Session], Any], int]] = {
    "first page of volumes": (lambda s: page(s, VolumeRecord, limit=LIMIT), LIMIT + 1),
    "a later page": (lambda s: page(s, VolumeRecord, after="vol-1500", limit=LIMIT), LIMIT + 1),
    "volumes of a VM": (lambda s: page(s, VolumeRecord, VolumeRecord.vm == "vm-7"), 10),
    "volumes of a pool": (
        lambda s: page(s, VolumeRecord, VolumeRecord.pool == "pool-7", limit=LIMIT),
        2 * LIMIT + 2,
    ),
    "page of snapshots": (lambda s: page(s, SnapshotRecord, after="snap-15000", limit=LIMIT), LIMIT + 1),
    "snapshots of a volume": (lambda s: page(s, SnapshotRecord, SnapshotRecord.volume == "vol-7"), 25),
    "a snapshot": (lambda s: snapshot_of(s, "snap-7"), 1),
    "chain of a volume": (lambda s: refs_of_volume(s, "vol-7"), 25),
    "owner of a file": (lambda s: page(s, Ref, Ref.store == "store-3", Ref.path == "snapshots/snap-7"), 2),
    "unfinished volumes": (lambda s: unfinished(s, VolumeRecord, VOLUMES), 3 * UNFINISHED),
    "unfinished snapshots": (lambda s: unfinished(s, SnapshotRecord, SNAPSHOTS), 3 * UNFINISHED),
    "unfinished refs": (lambda s: unfinished(s, Ref, REFS), 3 * UNFINISHED),
    "history of a snapshot": (lambda s: history(s, "snapshot", "snap-7"), 2),
}


@pytest.fixture(scope="module")
def large_sqlite(tmp_path_factory) -> Iterator[Catalog]:
    """A full catalog."""
    yield from _filled(f"sqlite:///{tmp_path_factory.mktemp('plans')}/catalog.db")


@pytest.fixture(scope="module")
def large_postgresql(postgres) -> Iterator[Catalog]:
    """A full catalog."""
    url = postgres.catalog_url()
    yield from _filled(url)
    postgres.drop(url)


def _filled(url: str) -> Iterator[Catalog]:
    with closing(Catalog(url)) as catalog:
        with catalog.transaction() as session:
            fill(session, VMS)
        yield catalog


@contextmanager
def statements(session: Session) -> Iterator[list[tuple[str, Any]]]:
    """Collect what is sent to the database."""
    connection, sent = session.connection(), []

    def listen(_connection, _cursor, statement, parameters, *_):
        sent.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", listen)
    yield sent
    event.remove(connection, "before_cursor_execute", listen)


def sent_by(session: Session, ask: Callable[[Session], Any]) -> list[tuple[str, Any]]:
    """Return what a function sends to the database."""
    with statements(session) as sent:
        ask(session)
    assert sent
    return sent


@pytest.mark.parametrize("what", ASKED)
def test_sqlite_searches_by_an_index(large_sqlite, what):
    """No table is scanned, except in the order of its key for a page; nothing is sorted."""
    ask, _ = ASKED[what]
    with large_sqlite.transaction() as session:
        for statement, parameters in sent_by(session, ask):
            plan = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            for *_, step in plan.fetchall():
                assert step.startswith("SEARCH") or step == FIRST_PAGE or SMALL.fullmatch(step), statement


# By key, with a LIMIT: it ends after the page.
FIRST_PAGE = "SCAN volumes USING INDEX sqlite_autoindex_volumes_1"
# All of an index that holds the unfinished alone.
SMALL = re.compile(r"SCAN \w+ USING INDEX \w+_unfinished")


@pytest.mark.real
@pytest.mark.parametrize("what", ASKED)
def test_postgresql_looks_at_no_more_than_it_was_asked_for(large_postgresql, what):
    """It counts the rows that each step saw, those included that it threw away."""
    ask, most = ASKED[what]
    with large_postgresql.transaction() as session:
        for statement, parameters in sent_by(session, ask):
            explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
            [[[plan]]] = session.connection().exec_driver_sql(explain, parameters).fetchall()
            assert rows_seen(plan["Plan"]) <= most, plan


def rows_seen(step: dict[str, Any]) -> int:
    """Return how many rows the hungriest step of a plan looked at."""
    own = step["Actual Loops"] * (step["Actual Rows"] + step.get("Rows Removed by Filter", 0))
    return max([int(own), *(rows_seen(child) for child in step.get("Plans", []))])


def test_a_scan_would_be_seen(large_sqlite):
    """A search by what has no index is one."""
    with large_sqlite.transaction() as session:
        [(statement, parameters)] = sent_by(
            session, lambda s: page(s, VolumeRecord, VolumeRecord.name == "x")
        )
        plan = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()

    assert [step for *_, step in plan] == [FIRST_PAGE]


def test_a_prune_step_is_bounded(large_sqlite):
    """It looks at what is old, by time."""
    with large_sqlite.transaction() as session:
        [(statement, parameters)] = sent_by(session, lambda s: prune(s, timedelta(days=200), at_most=10))
        plan = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()

    assert not [step for *_, step in plan if step.startswith("SCAN")]
