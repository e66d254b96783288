"""Durable records of the simulated cluster: JSON bodies by kind and key in one SQLite file."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Body = dict[str, Any]


class Records:
    """The SQLite file (mode 0600: addresses may hold secrets). Every change is durable when it returns."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
            "CREATE TABLE IF NOT EXISTS records(kind TEXT, key TEXT, body TEXT NOT NULL,"
            " PRIMARY KEY(kind, key)) WITHOUT ROWID;"
        )
        self._depth = 0

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def together(self) -> Iterator[None]:
        """The changes inside become durable as one, or none does."""
        with self._lock:
            outermost = self._depth == 0
            if outermost:
                self._db.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
            except BaseException:
                if outermost:
                    self._db.execute("ROLLBACK")
                raise
            else:
                if outermost:
                    self._db.execute("COMMIT")
            finally:
                self._depth -= 1

    def get(self, kind: str, *key: str) -> Body | None:
        """One record, or None."""
        with self._lock:
            query = "SELECT body FROM records WHERE kind=? AND key=?"
            row = self._db.execute(query, (kind, "/".join(key))).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, body: Body, kind: str, *key: str) -> None:
        """Makes or replaces a record."""
        with self.together():
            query = "INSERT OR REPLACE INTO records VALUES(?,?,?)"
            self._db.execute(query, (kind, "/".join(key), json.dumps(body)))

    def delete(self, kind: str, *key: str) -> None:
        """Removes a record, if it is there."""
        with self.together():
            self._db.execute("DELETE FROM records WHERE kind=? AND key=?", (kind, "/".join(key)))

    def all(self, kind: str, *under: str) -> list[Body]:
        """All records of a kind whose key begins with ``under``, by key."""
        prefix = "".join(f"{part}/" for part in under)
        with self._lock:
            query = "SELECT body FROM records WHERE kind=? AND substr(key, 1, ?)=? ORDER BY key"
            rows = self._db.execute(query, (kind, len(prefix), prefix)).fetchall()
        return [json.loads(body) for (body,) in rows]
