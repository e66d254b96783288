"""The few records with a task under way, among many that rest: an index that holds nobody else.

An index of all states would not do: SQLite takes each state for as frequent as any other once it has
statistics, and then looks at every row (seen with 20 of 20,000). An index of some rows is used only by a
statement that says which in the very same words, so they are literal and not bound.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Index, literal_column, text


def under_way(state: ColumnElement[Any], states: Collection[StrEnum]) -> ColumnElement[bool]:
    """Return the condition for a record to be in one of these states."""
    return state.in_([literal_column(word) for word in _words(states)])


def unfinished_index(table: str, states: Collection[StrEnum], *columns: str) -> Index:
    """Return the index of a table's records that are in one of these states."""
    where = text(f"state IN ({', '.join(_words(states))})")
    return Index(f"{table}_unfinished", *columns, sqlite_where=where, postgresql_where=where)


def _words(states: Collection[StrEnum]) -> list[str]:
    return sorted(f"'{state.value}'" for state in states)
