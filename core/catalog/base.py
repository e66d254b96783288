"""What all tables of the catalog have in common."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import BigInteger, Enum, Integer
from sqlalchemy.orm import DeclarativeBase

# Bytes, and numbers that never stop rising: PostgreSQL's INTEGER ends at 2 GiB. SQLite's does not, and it
# counts up by itself in an INTEGER only.
BIG = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    """Of all tables."""


def stored(kind: type[StrEnum]) -> Enum:
    """Return the column type of an enumeration: its members' text, which an operator can read."""
    return Enum(
        kind, native_enum=False, length=80, values_callable=lambda members: [m.value for m in members]
    )
