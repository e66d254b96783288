"""One SQLite connection behind one lock, transactions that nest, and hooks around the commit.

Lock order in the whole simulator (never the other way round)::

    database  >  volume (several: sorted by id)  >  slot pool

What must happen only when a change is durable (giving slots back, dropping a map) is an ``after_commit``
hook; what was done in memory beforehand and must be undone is an ``on_rollback`` hook.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS pools (
  seq INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, capacity INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS volumes (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, name TEXT NOT NULL, pool TEXT NOT NULL,
  size INTEGER NOT NULL, export_size INTEGER NOT NULL, serial TEXT NOT NULL, metadata TEXT NOT NULL,
  qos TEXT NOT NULL, source_type TEXT, source_id TEXT, shares_blocks INTEGER NOT NULL, created TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS volumes_by_name ON volumes (pool, name);
CREATE INDEX IF NOT EXISTS volumes_by_serial ON volumes (serial);
CREATE TABLE IF NOT EXISTS snapshots (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, name TEXT NOT NULL, volume TEXT NOT NULL,
  pool TEXT NOT NULL, size INTEGER NOT NULL, metadata TEXT NOT NULL, grp TEXT, created TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS snapshots_by_name ON snapshots (volume, name);
CREATE TABLE IF NOT EXISTS initiators (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, iqn TEXT UNIQUE NOT NULL,
  name TEXT NOT NULL, chap_user TEXT NOT NULL, chap_secret TEXT NOT NULL, created TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS groups (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, name TEXT UNIQUE NOT NULL,
  created TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS members (
  grp TEXT NOT NULL, initiator TEXT NOT NULL, PRIMARY KEY (grp, initiator)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS grants (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, volume TEXT NOT NULL, initiator TEXT,
  grp TEXT, read_only INTEGER NOT NULL, created TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS grants_by_volume ON grants (volume);
CREATE TABLE IF NOT EXISTS jobs (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, type TEXT NOT NULL, target TEXT NOT NULL,
  started REAL NOT NULL, due REAL NOT NULL);
CREATE INDEX IF NOT EXISTS jobs_by_target ON jobs (target);
CREATE TABLE IF NOT EXISTS idempotency (
  key TEXT PRIMARY KEY, request TEXT NOT NULL, status INTEGER NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS map_pages (
  owner TEXT NOT NULL, page INTEGER NOT NULL, slots BLOB NOT NULL, PRIMARY KEY (owner, page));
"""

Hook = Callable[[], None]


class Database:
    """Durable against the death of the process, not against a power cut (no fsync).

    Args:
        path: the SQLite file; made when missing, mode as the umask says (the directory is private).
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._committed: list[Hook] = []
        self._undone: list[Hook] = []
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; an inner transaction joins the outer one."""
        with self._lock:
            if self._depth:
                yield
                return
            self._db.execute("BEGIN IMMEDIATE")
            self._depth = 1
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                self._finish(self._undone)
                raise
            self._finish(self._committed)

    @contextmanager
    def steady(self) -> Iterator[None]:
        """Nobody else changes anything meanwhile: several queries, and the store, see one state."""
        with self._lock:
            yield

    def _finish(self, hooks: list[Hook]) -> None:
        hooks, self._committed, self._undone, self._depth = hooks, [], [], 0
        for hook in hooks:
            hook()

    def after_commit(self, hook: Hook) -> None:
        """Run when the outermost transaction is durable, before another one can begin."""
        self._committed.append(hook)

    def on_rollback(self, hook: Hook) -> None:
        """Run when the outermost transaction was undone."""
        self._undone.append(hook)

    def all(self, sql: str, *parameters: object) -> list[sqlite3.Row]:
        """The rows of a query, or of nothing for a change."""
        with self._lock:
            return self._db.execute(sql, parameters).fetchall()

    def one(self, sql: str, *parameters: object) -> sqlite3.Row | None:
        """The first row."""
        rows = self.all(sql, *parameters)
        return rows[0] if rows else None

    def number(self, sql: str, *parameters: object) -> int:
        """The first column of the first row, 0 for NULL."""
        with self._lock:
            (value,) = self._db.execute(sql, parameters).fetchone()
            return int(value or 0)

    def run(self, sql: str, *parameters: object) -> None:
        """A change; outside of a transaction it is one by itself."""
        with self._lock:
            self._db.execute(sql, parameters)

    def run_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """The same change for many rows."""
        with self._lock:
            self._db.executemany(sql, rows)

    def remember(self, key: str, value: str) -> None:
        """Keep a single fact."""
        self.run("INSERT OR REPLACE INTO meta VALUES (?, ?)", key, value)

    def recall(self, key: str) -> str | None:
        """A fact that was kept, or None."""
        row = self.one("SELECT value FROM meta WHERE key = ?", key)
        return None if row is None else str(row["value"])
