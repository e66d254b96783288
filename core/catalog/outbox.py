"""The outbox: what happened, written in the transaction that made it happen.

    transit ──> transitions ──> events (position: none yet) ── COMMIT ──> a reader gives it a position

Two transactions may commit in another order than they took their numbers, and whoever read by number would
pass over the slower one for ever. Positions are given to what is committed, by one reader at a time: nothing
comes later with a smaller one. The events of one object keep their order, since its record is locked until
the transaction ends.
"""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import JSON, Connection, Index, String, event, insert, text
from sqlalchemy.orm import Mapped, MappedAsDataclass, Mapper, Session, mapped_column

from .base import BIG, Base
from .transitions import Transition, now_text, requested

_TYPE = "bollard"
_NEW = text("position IS NULL")


class OutboxEvent(MappedAsDataclass, Base, kw_only=True):
    """Something that happened.

    Attributes:
        number: rises with time within a transaction, not across them.
        id: unique in the world.
        type: "bollard.<kind>.<state>".
        subject: "<kind>/<id>"; events of one subject are in order.
        time: when, in UTC.
        data: as JSON values; no secrets.
        request: id of the request that led to it, if it is known.
        position: in the stream; None until it has one.
    """

    __tablename__ = "events"
    __table_args__ = (
        Index("events_new", "number", sqlite_where=_NEW, postgresql_where=_NEW),
        Index("events_position", "position", unique=True),
    )

    number: Mapped[int] = mapped_column(BIG, primary_key=True, autoincrement=True, init=False)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    type: Mapped[str] = mapped_column(String(120))
    subject: Mapped[str] = mapped_column(String(160))
    time: Mapped[str] = mapped_column(String(40), index=True)
    data: Mapped[dict[str, Any]] = mapped_column(JSON)
    request: Mapped[str] = mapped_column(String(64), default="")
    position: Mapped[int | None] = mapped_column(BIG, default=None)


def publish(session: Session, kind: str, object_id: str, word: str, data: dict[str, Any]) -> None:
    """Tell of something that is no transition, such as the beginning of a life."""
    values = _values(kind, object_id, word, data, time=now_text(session), request=requested())
    session.execute(insert(OutboxEvent).values(values))


@event.listens_for(Transition, "after_insert")
def _publish_transition(_mapper: Mapper[Transition], connection: Connection, moved: Transition) -> None:
    data = {"before": moved.before, "event": moved.event, "after": moved.after, "reason": moved.reason}
    values = _values(moved.kind, moved.object, moved.after, data, time=moved.time, request=moved.request)
    connection.execute(insert(OutboxEvent).values(values))


def _values(
    kind: str, object_id: str, word: str, data: dict[str, Any], *, time: str, request: str
) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()),
        "type": f"{_TYPE}.{kind}.{word}",
        "subject": f"{kind}/{object_id}",
        "time": time,
        "data": data,
        "request": request,
        "position": None,
    }
