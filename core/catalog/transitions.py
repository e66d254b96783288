"""The history of every object: each move of a state machine, with its reason, in one transaction.

    snapshot  s-1  Creating   OperationFailed   Error   "the pool is full"   2026-11-22T05:11:00.000+00:00

It answers who moved what and why, weeks later; decisions are made on the objects' own records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import Index, String, Text, delete, select
from sqlalchemy.orm import Mapped, MappedAsDataclass, Session, mapped_column, object_session

from .base import BIG, Base
from .machine import Event, State, StateMachine

Clock = Callable[[], datetime]

CLOCK = "bollard.clock"  # key of Session.info: what tells the time to the records of this transaction

_request: ContextVar[str] = ContextVar("bollard.catalog.request", default="")


class Movable(Protocol):
    """A record with an id and a state."""

    id: Any
    state: Any


class Transition(MappedAsDataclass, Base, kw_only=True):
    """One move.

    Attributes:
        number: rises with time.
        kind: name of the state machine.
        object: id of what moved.
        reason: for an operator; "" where the event says all.
        time: when, in UTC.
        request: id of the request that led to it, if it is known.
    """

    __tablename__ = "transitions"
    __table_args__ = (Index("transitions_object", "kind", "object", "number"),)

    number: Mapped[int] = mapped_column(BIG, primary_key=True, autoincrement=True, init=False)
    kind: Mapped[str] = mapped_column(String(32))
    object: Mapped[str] = mapped_column(String(64))
    before: Mapped[str] = mapped_column(String(32))
    event: Mapped[str] = mapped_column(String(32))
    after: Mapped[str] = mapped_column(String(32))
    time: Mapped[str] = mapped_column(String(40), index=True)
    reason: Mapped[str] = mapped_column(Text, default="")
    request: Mapped[str] = mapped_column(String(64), default="")


@contextmanager
def requested_by(request: str) -> Iterator[None]:
    """Let the transitions of this block carry a request's id; nested blocks carry their own."""
    token = _request.set(request)
    try:
        yield
    finally:
        _request.reset(token)


def requested() -> str:
    """Return the id of the request that is being carried out; "" if it is not known."""
    return _request.get()


def now_text(session: Session) -> str:
    """Return the time of a transaction's clock as records hold it: UTC, milliseconds, sorts by time."""
    clock: Clock = session.info.get(CLOCK, _utc_now)
    return _text(clock())


def transit(
    session: Session, machine: StateMachine[State, Event], record: Movable, event: Event, reason: str = ""
) -> State:
    """Move a record on and write that down; both are durable with the session's transaction, or neither.

    Raises:
        IllegalTransition: its state does not take the event; nothing was changed.
    """
    before = machine.state(record.state)
    after = machine.after(before, event, str(record.id))
    if record.id is None:  # the database gives ids to new ones
        session.flush()
    record.state = after
    session.add(
        Transition(
            kind=machine.name,
            object=str(record.id),
            before=before,
            event=event,
            after=after,
            time=now_text(session),
            reason=reason,
            request=_request.get(),
        )
    )
    return after


def move(record: Movable, machine: StateMachine[State, Event], event: Event, reason: str = "") -> None:
    """Move a record on in the session that it belongs to; one that belongs to none is just moved.

    Raises:
        IllegalTransition: its state does not take the event; nothing was changed.
    """
    session = object_session(record)
    if session is None:
        record.state = machine.after(machine.state(record.state), event, str(record.id))
    else:
        transit(session, machine, record, event, reason)


def history(
    session: Session, kind: str, object_id: str, *, after: int = 0, limit: int = 100
) -> Sequence[Transition]:
    """Return a page of an object's moves, oldest first; `after` is the last number that was seen."""
    chosen = select(Transition).where(
        Transition.kind == kind, Transition.object == object_id, Transition.number > after
    )
    return session.scalars(chosen.order_by(Transition.number).limit(limit)).all()


def prune(session: Session, older_than: timedelta, *, at_most: int = 10_000) -> int:
    """Forget moves of long ago; return how many went.

    Args:
        at_most: per call, so that no writer waits long; repeat while it is what was returned.
    """
    clock: Clock = session.info.get(CLOCK, _utc_now)
    old = select(Transition.number).where(Transition.time < _text(clock() - older_than))
    some = old.order_by(Transition.time).limit(at_most)
    return session.connection().execute(delete(Transition).where(Transition.number.in_(some))).rowcount


def _text(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds")


def _utc_now() -> datetime:
    return datetime.now(UTC)
