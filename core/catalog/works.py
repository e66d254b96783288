"""What is being done to which object, by whom: at most one thing at a time to each.

    volumes   v-1  Attaching ─────── works   volume v-1   attach   {"vm": …, "host": …}   owner

The row is written with the transition into a transient state and removed with the one out of it, each time in
one transaction. So whoever finds it after a crash finds every name that the act has used.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Float, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from .base import Base


class WorkRow(Base):
    """One act on one object.

    Attributes:
        kind: of the object, as its state machine is called.
        act: what is done.
        details: what it takes to end it.
        owner: see `OwnerRow`; None: nobody has it in hand, it waits for a sync.
        epoch: rises with each claim: who had it before cannot end it any more.
        vm: whose disk it is or will be; "" without.
        host: on which it happens; "" without.
        began: seconds since the epoch.
        error: why it was not ended at the last try.
    """

    __tablename__ = "works"
    __table_args__ = (Index("works_owner", "owner", "began", "kind", "object"),)

    kind: Mapped[str] = mapped_column(String(32), primary_key=True)
    object: Mapped[str] = mapped_column(String(64), primary_key=True)
    act: Mapped[str] = mapped_column(String(32))
    details: Mapped[dict[str, Any]] = mapped_column(JSON)
    owner: Mapped[str | None] = mapped_column(String(32))
    epoch: Mapped[int] = mapped_column(default=1)
    vm: Mapped[str] = mapped_column(String(64), default="", index=True)
    host: Mapped[str] = mapped_column(String(64), default="", index=True)
    began: Mapped[float] = mapped_column(Float)
    error: Mapped[str] = mapped_column(String(1000), default="")
