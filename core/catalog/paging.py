"""Records in pages: by key, so that the last page costs as much as the first; no list is whole in memory.

    first = page(session, VolumeRecord, VolumeRecord.vm == "vm-1", limit=50)
    second = page(session, VolumeRecord, VolumeRecord.vm == "vm-1", limit=50, after=first.after)

A row that is added or removed between two pages is seen or not; no other row is missed or shown twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from ..spi.errors import NotFound
from .base import Base
from .machine import StateMachine
from .unfinished import under_way

Record = TypeVar("Record", bound=Base)

PAGE = 100  # rows, unless told otherwise
MAX_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Page(Generic[Record]):
    """Some records; `after` is what to ask with for the next page, None if this is the last."""

    records: Sequence[Record]
    after: Any


def one(session: Session, kind: type[Record], key: Any) -> Record:
    """Return a record by its id, or raise `NotFound`."""
    record = session.get(kind, key)
    if record is None:
        raise NotFound(f"there is no {_called(kind)} {key}")
    return record


def page(
    session: Session,
    kind: type[Record],
    *where: ColumnElement[bool],
    after: Any = None,
    limit: int = PAGE,
) -> Page[Record]:
    """Return the records that fit, in the order of their ids.

    Args:
        after: of the page before; None is the first one.
        limit: how many at most; 1 to `MAX_PAGE`, what is beyond is cut.
    """
    key = _key(kind)
    limit = max(1, min(limit, MAX_PAGE))
    chosen = select(kind).where(*where).order_by(key).limit(limit + 1)
    if after is not None:
        chosen = chosen.where(key > after)
    found = session.scalars(chosen).all()
    more = len(found) > limit
    return Page(found[:limit], getattr(found[limit - 1], key.name) if more else None)


def unfinished(
    session: Session,
    kind: type[Record],
    machine: StateMachine[Any, Any],
    *where: ColumnElement[bool],
    after: Any = None,
    limit: int = PAGE,
) -> Page[Record]:
    """Return the records with a task under way or left by a dead process: what a sync has to look at."""
    transient = under_way(kind.__table__.c.state, machine.transient)
    return page(session, kind, transient, *where, after=after, limit=limit)


def each(pages: Callable[[Any], Page[Record]]) -> Iterator[Record]:
    """Yield the records of all pages, one page in memory; `pages` returns the one after a key.

    Each page may be a transaction of its own, so that no reader holds on to one instant for minutes.
    """
    after: Any = None
    while True:
        found = pages(after)
        yield from found.records
        if found.after is None:
            return
        after = found.after


def _key(kind: type[Record]) -> Any:
    [key] = kind.__table__.primary_key
    return key


def _called(kind: type[Record]) -> str:
    return str(kind.__tablename__).removesuffix("s").replace("_", " ")
