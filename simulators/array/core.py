"""What every part of the array needs: settings, database, store, defects, clock, ids and paged lists."""

from __future__ import annotations

import base64
import sqlite3
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from . import rules
from .database import Database
from .defects import Defect, Defects
from .errors import ArrayError, invalid, not_found
from .store import Store

Json = dict[str, Any]
Table = Literal["volumes", "snapshots", "initiators", "groups", "grants", "jobs", "pools"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How this array behaves.

    Attributes:
        username: the administrator.
        password: of the administrator; never logged.
        job_seconds: how long clones and reverts take.
        session_limit: REST sessions at the same time.
        session_seconds: life of a REST session.
        rate_limit: REST requests per second, 0 for no limit.
        overprovision: sum of volume sizes allowed, as a multiple of the pool's capacity.
    """

    username: str = "admin"
    password: str = field(repr=False)
    job_seconds: float = 0.05
    session_limit: int = 1024
    session_seconds: float = 3600.0
    rate_limit: float = 0.0
    overprovision: float = 16.0


@dataclass(frozen=True, slots=True)
class Core:
    """The common ground of the services."""

    db: Database
    store: Store
    defects: Defects
    settings: Settings
    clock: Callable[[], float] = time.time

    def now(self) -> str:
        """The present, as the API shows it."""
        return stamp(self.clock())

    def find(self, table: Table, key: str, field: str | None = None) -> sqlite3.Row:
        """An object by its id; ArrayError not_found names ``field`` when a body referred to it."""
        row = self.db.one(f"SELECT * FROM {table} WHERE id = ?", key)  # noqa: S608 - table is a Literal
        if row is None:
            raise not_found(table.removesuffix("s"), key, field)
        return row

    def missing_or_error(self, error: ArrayError) -> ArrayError:
        """What a DELETE of something missing answers."""
        if error.code == "not_found" and Defect.DELETE_MISSING_IS_ERROR in self.defects:
            return ArrayError("internal_error", "the object could not be deleted")
        return error

    def page(self, table: Table, query: Query, show: Callable[[sqlite3.Row], Json]) -> Json:
        """One page of a list, in the order of creation. A cursor is a place in that order, not a number of
        rows, so that deletions meanwhile skip nothing.
        """
        where = " AND ".join(["seq > ?", *query.conditions])
        statement = f"SELECT * FROM {table} WHERE {where} ORDER BY seq LIMIT ?"  # noqa: S608 - constants
        rows = self.db.all(statement, query.after, *query.values, query.limit + 1)
        more, rows = len(rows) > query.limit, rows[: query.limit]
        following = _cursor(rows[-1]["seq"]) if more else None
        if query.after and Defect.LIST_SKIPS_PAGE_BOUNDARY in self.defects:
            rows = rows[1:]
        if not more and Defect.LIST_MISSES_NEWEST in self.defects:
            rows = rows[:-1]
        return {"items": [show(row) for row in rows], "next": following}


class Query:
    """The conditions of a list: from the URL, plus fixed ones.

    Args:
        arguments: the URL's query.
        equal: query parameter to column, compared for equality.
        others: query parameters that the caller looks at itself.
    """

    def __init__(
        self, arguments: dict[str, str], equal: dict[str, str], *, others: tuple[str, ...] = ()
    ) -> None:
        for key in arguments:
            if key not in equal and key not in {"limit", "cursor", *others}:
                raise invalid(key, "is not known here")
        self.limit = whole_number(arguments, "limit", 100, 1, rules.MAX_PAGE)
        self.after = _place(arguments["cursor"]) if "cursor" in arguments else 0
        self.conditions: list[str] = []
        self.values: list[object] = []
        for key, column in equal.items():
            if key in arguments:
                self.where(f"{column} = ?", arguments[key])

    def where(self, condition: str, *values: object) -> Query:
        """One more condition."""
        self.conditions.append(condition)
        self.values += values
        return self


def whole_number(arguments: dict[str, str], key: str, default: int, low: int, high: int) -> int:
    """A number in the URL's query."""
    value = arguments.get(key, str(default))
    if not value.isascii() or not value.isdecimal() or len(value) > 18 or not low <= int(value) <= high:
        raise invalid(key, f"must be a whole number from {low} to {high}")
    return int(value)


def new_id(prefix: str) -> str:
    """An id that was never used before."""
    return f"{prefix}-{uuid.uuid4().hex[:16]}"


def stamp(seconds: float) -> str:
    """ISO 8601, UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _cursor(seq: int) -> str:
    return base64.urlsafe_b64encode(f"after:{seq}".encode()).decode()


def _place(cursor: str) -> int:
    try:
        word, _, seq = base64.urlsafe_b64decode(cursor.encode()).decode().partition(":")
        if word != "after":
            raise ValueError(word)
        return int(seq)
    except ValueError as error:
        raise invalid("cursor", "is not one of ours") from error
