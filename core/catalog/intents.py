"""Tables of the intents of a fleet: who is at work, what he has begun, and what is being decided.

intent_owners  1 ── n  intents          an intent without an owner is anybody's to end
               1 ── n  intent_locks     one per object on which somebody decides just now
"""

from __future__ import annotations

from sqlalchemy import Float, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from .base import Base

_ID = String(32)


class OwnerRow(Base):
    """A process that may begin intents.

    Attributes:
        name: host and process, for people.
        expires: end of its lease, seconds since the epoch.
    """

    __tablename__ = "intent_owners"

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    expires: Mapped[float] = mapped_column(Float)


class IntentRow(Base):
    """One intent.

    Attributes:
        fields: what it is about, as JSON.
        subject: digest of `fields`: entries about one object share it.
        owner: who has it in hand; None: nobody.
        epoch: rises with each claim: who had it before cannot end it any more.
        began: seconds since the epoch.
        began_by: name of who began it.
    """

    __tablename__ = "intents"
    __table_args__ = (
        Index("intents_owner", "owner", "began", "id"),
        Index("intents_subject", "subject"),
    )

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    kind: Mapped[str] = mapped_column(String(64))
    fields: Mapped[str] = mapped_column(Text)
    subject: Mapped[str] = mapped_column(String(64))
    owner: Mapped[str | None] = mapped_column(_ID)
    epoch: Mapped[int] = mapped_column(default=1)
    began: Mapped[float] = mapped_column(Float)
    began_by: Mapped[str] = mapped_column(String(255))


class IntentLockRow(Base):
    """Somebody decides on an object; another one who wants to waits."""

    __tablename__ = "intent_locks"

    subject: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(_ID, index=True)
    holder: Mapped[str] = mapped_column(_ID)
