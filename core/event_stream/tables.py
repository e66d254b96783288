"""What is remembered of webhooks.

webhooks           how far each one is, and who delivers for it
webhook_pending    events whose delivery failed, and those that wait behind one of the same subject
"""

from __future__ import annotations

from sqlalchemy import Boolean, Double, Index, Integer, String
from sqlalchemy.orm import Mapped, MappedAsDataclass, mapped_column

from ..catalog.base import BIG, Base


class WebhookRow(MappedAsDataclass, Base, kw_only=True):
    """One webhook of the configuration.

    Attributes:
        position: all up to here are delivered, pending or not wanted.
        owner: who delivers, until `lease_until` (seconds since 1970).
        failures: in a row, of reaching the receiver at all; `not_before`: the next attempt.
    """

    __tablename__ = "webhooks"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    position: Mapped[int] = mapped_column(BIG, default=0)
    owner: Mapped[str] = mapped_column(String(64), default="")
    lease_until: Mapped[float] = mapped_column(Double, default=0.0)
    failures: Mapped[int] = mapped_column(Integer, default=0)
    not_before: Mapped[float] = mapped_column(Double, default=0.0)


class PendingRow(MappedAsDataclass, Base, kw_only=True):
    """An event that is still to be delivered, or was given up (`dead`)."""

    __tablename__ = "webhook_pending"
    __table_args__ = (Index("webhook_pending_subject", "webhook", "dead", "subject", "position"),)

    webhook: Mapped[str] = mapped_column(String(64), primary_key=True)
    position: Mapped[int] = mapped_column(BIG, primary_key=True)
    subject: Mapped[str] = mapped_column(String(160))
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    not_before: Mapped[float] = mapped_column(Double, default=0.0)
    error: Mapped[str] = mapped_column(String(255), default="")
    dead: Mapped[bool] = mapped_column(Boolean, default=False)
