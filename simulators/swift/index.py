"""What the simulated Swift knows, in one SQLite file: containers, objects, tokens.

An object is visible exactly when its row is committed; the bytes lie in a blob that was fsynced before.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_SCHEMA = """
CREATE TABLE IF NOT EXISTS containers(
  account TEXT, name TEXT, created REAL NOT NULL, headers TEXT NOT NULL,
  PRIMARY KEY(account, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS objects(
  account TEXT, container TEXT, name TEXT, blob TEXT NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL,
  modified REAL NOT NULL, headers TEXT NOT NULL, slo_size INTEGER, slo_etag TEXT, delete_at REAL,
  listed_from REAL NOT NULL, removed INTEGER NOT NULL DEFAULT 0, listed_until REAL,
  PRIMARY KEY(account, container, name)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS expiry ON objects(delete_at) WHERE delete_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS tokens(digest TEXT PRIMARY KEY, user TEXT NOT NULL, expires REAL NOT NULL);
"""

ObjectKey = tuple[str, str, str]
"""Account, container, object name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRecord:
    """One container; ``count`` and ``used_bytes`` are of what its listing shows now."""

    name: str
    created: float
    headers: Mapping[str, str]
    count: int = 0
    used_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRecord:
    """One object.

    Attributes:
        blob: name of the file with its bytes (of the manifest, when it is an SLO).
        size: bytes in the blob.
        etag: MD5 of the blob, hexadecimal.
        modified: seconds since the epoch.
        headers: content type and user metadata, canonical names.
        slo_size: for an SLO, the bytes of all its segments; else None.
        slo_etag: for an SLO, the MD5 of its segments' ETags; else None.
        delete_at: when it expires, seconds since the epoch; None for never.
        listed_from: listings show it from this time on (the defect ``listing_lag`` moves it).
    """

    key: ObjectKey
    blob: str
    size: int
    etag: str
    modified: float
    headers: Mapping[str, str] = field(default_factory=dict)
    slo_size: int | None = None
    slo_etag: str | None = None
    delete_at: float | None = None
    listed_from: float = 0.0

    @property
    def content_size(self) -> int:
        """Bytes that a GET delivers."""
        return self.size if self.slo_size is None else self.slo_size

    @property
    def content_type(self) -> str:
        """Its media type."""
        return self.headers.get("Content-Type", "application/octet-stream")


class Index:
    """The SQLite file. All methods are short and hold one lock; ``transaction`` makes several one step."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;" + _SCHEMA)
        self._depth = 0

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All changes inside become durable together when the outermost block ends, or none does."""
        with self._lock:
            if self._depth == 0:
                self._db.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield self._db
            except BaseException:
                self._depth -= 1
                if self._depth == 0:
                    self._db.execute("ROLLBACK")
                raise
            self._depth -= 1
            if self._depth == 0:
                self._db.execute("COMMIT")

    # containers

    def put_container(self, account: str, name: str, created: float, headers: Mapping[str, str]) -> bool:
        """Makes a container or merges its metadata; True when it is new. An empty value removes a header."""
        with self.transaction() as db:
            old = self.container(account, name, created)
            merged = {**(old.headers if old else {}), **headers}
            kept = json.dumps({key: value for key, value in merged.items() if value})
            db.execute(
                "INSERT INTO containers VALUES(?,?,?,?)"
                " ON CONFLICT(account, name) DO UPDATE SET headers=excluded.headers",
                (account, name, created, kept),
            )
            return old is None

    def container(self, account: str, name: str, now: float) -> ContainerRecord | None:
        """One container, or None."""
        found = self._containers("c.account=? AND c.name=?", (account, name), now)
        return found[0] if found else None

    def has_container(self, account: str, name: str) -> bool:
        """Whether the container exists; cheaper than its record, which counts objects."""
        with self._lock:
            query = "SELECT 1 FROM containers WHERE account=? AND name=?"
            return self._db.execute(query, (account, name)).fetchone() is not None

    def containers(self, account: str, now: float) -> list[ContainerRecord]:
        """All containers of an account by name."""
        return self._containers("c.account=?", (account,), now)

    def _containers(self, where: str, values: tuple[str, ...], now: float) -> list[ContainerRecord]:
        query = (
            "SELECT c.name, c.created, c.headers, COUNT(o.name),"  # noqa: S608 - constants
            " COALESCE(SUM(COALESCE(o.slo_size, o.size)), 0)"
            " FROM containers c LEFT JOIN objects o ON o.account=c.account AND o.container=c.name"
            f" AND {_LISTED} WHERE {where} GROUP BY c.account, c.name ORDER BY c.name"
        )
        with self._lock:
            rows = self._db.execute(query, (now, now, now, *values)).fetchall()
        return [
            ContainerRecord(
                name=name, created=created, headers=json.loads(headers), count=count, used_bytes=used
            )
            for name, created, headers, count, used in rows
        ]

    def delete_container(self, account: str, name: str) -> None:
        """Removes an empty container with the leftovers that only lagging listings still show."""
        with self.transaction() as db:
            db.execute("DELETE FROM objects WHERE account=? AND container=?", (account, name))
            db.execute("DELETE FROM containers WHERE account=? AND name=?", (account, name))

    def holds_objects(self, account: str, container: str, now: float) -> bool:
        """Whether an object can still be read there."""
        with self._lock:
            query = f"SELECT 1 FROM objects WHERE account=? AND container=? AND {_LIVE} LIMIT 1"  # noqa: S608 - constant
            return self._db.execute(query, (account, container, now)).fetchone() is not None

    # objects

    def put_object(self, record: ObjectRecord) -> None:
        """Makes or replaces an object."""
        with self.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO objects VALUES(?,?,?,?,?,?,?,?,?,?,?,?,0,NULL)",
                (
                    *(*record.key, record.blob, record.size, record.etag, record.modified),
                    *(json.dumps(dict(record.headers)), record.slo_size, record.slo_etag),
                    *(record.delete_at, record.listed_from),
                ),
            )

    def object(self, key: ObjectKey, now: float) -> ObjectRecord | None:
        """An object that can be read now, or None."""
        query = f"SELECT {_COLUMNS} FROM objects WHERE account=? AND container=? AND name=? AND {_LIVE}"  # noqa: S608 - constants
        with self._lock:
            row = self._db.execute(query, (*key, now)).fetchone()
        return None if row is None else _object(row)

    def remove_object(self, key: ObjectKey, listed_until: float | None) -> None:
        """The object is gone; with ``listed_until`` listings show it up to that time all the same."""
        where = "WHERE account=? AND container=? AND name=?"
        with self.transaction() as db:
            if listed_until is None:
                db.execute(f"DELETE FROM objects {where}", key)  # noqa: S608 - constant
            else:
                query = f"UPDATE objects SET removed=1, blob='', listed_until=? {where}"  # noqa: S608 - constant
                db.execute(query, (listed_until, *key))

    def listed(
        self, account: str, container: str, now: float, prefix: str, marker: str
    ) -> list[ObjectRecord]:
        """What a listing shows behind ``marker``, by name in byte order."""
        query = (
            f"SELECT {_COLUMNS} FROM objects o WHERE {_LISTED} AND account=? AND container=?"  # noqa: S608 - constants
            " AND name>? AND name>=? AND name<? ORDER BY name"
        )
        values = (now, now, now, account, container, marker, prefix, prefix + "\U0010ffff")
        with self._lock:
            return [_object(row) for row in self._db.execute(query, values)]

    def expired(self, now: float) -> list[ObjectRecord]:
        """Objects whose time is over but that still take space."""
        query = f"SELECT {_COLUMNS} FROM objects WHERE removed=0 AND delete_at<=?"  # noqa: S608 - constant
        with self._lock:
            return [_object(row) for row in self._db.execute(query, (now,))]

    def blobs(self) -> set[str]:
        """Names of all files that some object needs."""
        with self._lock:
            return {name for (name,) in self._db.execute("SELECT blob FROM objects WHERE removed=0")}

    # tokens

    def put_token(self, digest: str, user: str, expires: float) -> None:
        """Remembers a token by its digest."""
        with self.transaction() as db:
            db.execute("INSERT OR REPLACE INTO tokens VALUES(?,?,?)", (digest, user, expires))

    def token_user(self, digest: str, now: float) -> str | None:
        """Whose token it is, while it is valid."""
        query = "SELECT user FROM tokens WHERE digest=? AND expires>?"
        with self._lock:
            row = self._db.execute(query, (digest, now)).fetchone()
        return None if row is None else str(row[0])

    def drop_tokens(self) -> None:
        """Makes every token invalid."""
        with self.transaction() as db:
            db.execute("DELETE FROM tokens")


_COLUMNS = """account, container, name, blob, size, etag, modified, headers, slo_size, slo_etag, delete_at,
 listed_from"""
_LIVE = "removed=0 AND (delete_at IS NULL OR delete_at>?)"
_LISTED = (
    "o.listed_from<=? AND (o.listed_until IS NULL OR o.listed_until>?)"
    " AND (o.delete_at IS NULL OR o.delete_at>?)"
)


def _object(row: tuple[Any, ...]) -> ObjectRecord:
    account, container, name, blob, size, etag, modified, headers, slo_size, slo_etag, delete_at, listed = row
    return ObjectRecord(
        key=(account, container, name),
        blob=blob,
        size=size,
        etag=etag,
        modified=modified,
        headers=json.loads(headers),
        slo_size=slo_size,
        slo_etag=slo_etag,
        delete_at=delete_at,
        listed_from=listed,
    )
