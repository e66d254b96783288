"""Who may reach what: volumes granted to hosts, and volumes that hypervisors were made to know.

    Requested ──ok──> Held ──release──> Releasing ──ok──> Released ──request──> Requested
        └────────────── release ───────────^

The row is written before the act. After a failure somebody may have it all the same, so the only way
from Requested without Held goes through a release, which can be repeated until it has succeeded.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, MappedAsDataclass, mapped_column

from .base import BIG, Base, stored
from .machine import StateMachine
from .transitions import move
from .unfinished import unfinished_index

_ID = String(64)


class HoldState(StrEnum):
    """How far it has come."""

    REQUESTED = "Requested"
    HELD = "Held"
    RELEASING = "Releasing"
    RELEASED = "Released"


class HoldEvent(StrEnum):
    """What happens to it."""

    REQUESTED = "Requested"
    SUCCEEDED = "OperationSucceeded"
    FAILED = "OperationFailed"
    RELEASE_REQUESTED = "ReleaseRequested"


_S, _E = HoldState, HoldEvent

GRANTS = StateMachine(
    "grant",
    _S.REQUESTED,
    {
        (_S.REQUESTED, _E.REQUESTED): _S.REQUESTED,
        (_S.REQUESTED, _E.SUCCEEDED): _S.HELD,
        (_S.REQUESTED, _E.FAILED): _S.REQUESTED,
        (_S.REQUESTED, _E.RELEASE_REQUESTED): _S.RELEASING,
        (_S.HELD, _E.RELEASE_REQUESTED): _S.RELEASING,
        (_S.RELEASING, _E.RELEASE_REQUESTED): _S.RELEASING,
        (_S.RELEASING, _E.FAILED): _S.RELEASING,
        (_S.RELEASING, _E.SUCCEEDED): _S.RELEASED,
        (_S.RELEASED, _E.REQUESTED): _S.REQUESTED,
    },
    frozenset({_S.REQUESTED, _S.RELEASING}),
)
INTRODUCTIONS = GRANTS.called("introduction")


class Grant(MappedAsDataclass, Base, kw_only=True):
    """A volume of a managed pool that a host may use.

    Attributes:
        volume: its id; of a snapshot's or a copy's clone that is read for the time being, too.
        host: id of the host.
        purpose: "vm:…", "job:…": who wants it; for the sweep, which looks whether that still lives.
    """

    __tablename__ = "grants"
    __table_args__ = (
        UniqueConstraint("volume", "host", name="grants_one_per_host"),
        Index("grants_host", "host", "id"),
        unfinished_index("grants", GRANTS.transient, "id"),
    )

    id: Mapped[int] = mapped_column(BIG, primary_key=True, autoincrement=True, init=False)
    volume: Mapped[str] = mapped_column(_ID)
    pool: Mapped[str] = mapped_column(String(255))
    host: Mapped[str] = mapped_column(_ID)
    created: Mapped[str] = mapped_column(String(40))
    purpose: Mapped[str] = mapped_column(String(80), default="")
    state: Mapped[HoldState] = mapped_column(stored(HoldState), default=HoldState.REQUESTED)

    def take(self, event: HoldEvent, reason: str = "") -> None:
        """Move on and record it; raises `IllegalTransition` where the event does not fit."""
        move(self, GRANTS, event, reason)


class Introduction(MappedAsDataclass, Base, kw_only=True):
    """A volume that the hypervisor of a host knows.

    Attributes:
        volume: its id.
        host: id of the host.
        path: where it appeared there; "" until then.
        purpose: as a grant's.
    """

    __tablename__ = "introductions"
    __table_args__ = (
        UniqueConstraint("volume", "host", name="introductions_one_per_host"),
        Index("introductions_host", "host", "id"),
        unfinished_index("introductions", INTRODUCTIONS.transient, "id"),
    )

    id: Mapped[int] = mapped_column(BIG, primary_key=True, autoincrement=True, init=False)
    volume: Mapped[str] = mapped_column(_ID)
    pool: Mapped[str] = mapped_column(String(255))
    host: Mapped[str] = mapped_column(_ID)
    created: Mapped[str] = mapped_column(String(40))
    path: Mapped[str] = mapped_column(Text, default="")
    purpose: Mapped[str] = mapped_column(String(80), default="")
    state: Mapped[HoldState] = mapped_column(stored(HoldState), default=HoldState.REQUESTED)

    def take(self, event: HoldEvent, reason: str = "") -> None:
        """Move on and record it; raises `IllegalTransition` where the event does not fit."""
        move(self, INTRODUCTIONS, event, reason)
