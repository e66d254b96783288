"""The table of jobs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Double, Index, String, select
from sqlalchemy.orm import Mapped, MappedAsDataclass, Session, mapped_column

from ..catalog.base import BIG, Base, stored
from ..catalog.transitions import move, requested_by
from ..spi.errors import NotFound
from .states import JOB, JobEvent, JobState

_ID = String(64)


class Job(MappedAsDataclass, Base, kw_only=True):
    """Work that somebody asked for, until long after it is done.

    Attributes:
        number: rises with time; what is listed and who comes first goes by it.
        id: what the user knows it by.
        kind: who can do it.
        arguments: as JSON values; no secrets.
        tenant: on whose behalf, "" for the system's; tenants take turns.
        host: that it burdens, "" for none; likewise `pool`.
        priority: higher comes first.
        request_id: of all its attempts, so that a backend may recognise a repetition.
        idempotency_key: the tenant's name for the order, unique; None without.
        fingerprint: of the order: the same key must mean the same order.
        done: bytes or steps, `total` of them; 0 of 0 until it is known.
        text: what it is doing just now, for people.
        result: as JSON values; None until it succeeded.
        error: `StorageError.to_json()` of the last attempt; None without.
        attempts: begun so far.
        epoch: rises with each worker that gets the job: an older one's word counts no more.
        owner: the worker that has it, "" for none.
        lease_until: seconds since 1970 until which the owner counts as alive.
        not_before: seconds since 1970; no attempt begins earlier.
        created: seconds since 1970; `started` of the first attempt, `ended` of the last, 0 until then.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        Index("jobs_lanes", "state", "kind", "tenant", "host", "pool", "priority", "number"),
        Index("jobs_leases", "state", "lease_until"),
        Index("jobs_by_state", "state", "number"),
        Index("jobs_ended", "ended"),
        Index("jobs_idempotency", "tenant", "idempotency_key", unique=True),
    )

    number: Mapped[int] = mapped_column(BIG, primary_key=True, autoincrement=True, init=False)
    id: Mapped[str] = mapped_column(_ID, unique=True)
    kind: Mapped[str] = mapped_column(_ID)
    arguments: Mapped[dict[str, Any]] = mapped_column(JSON)
    created: Mapped[float] = mapped_column(Double)
    request_id: Mapped[str] = mapped_column(_ID)
    tenant: Mapped[str] = mapped_column(_ID, default="")
    host: Mapped[str] = mapped_column(String(255), default="")
    pool: Mapped[str] = mapped_column(String(255), default="")
    priority: Mapped[int] = mapped_column(default=0)
    idempotency_key: Mapped[str | None] = mapped_column(String(255), default=None)
    fingerprint: Mapped[str] = mapped_column(_ID, default="")
    state: Mapped[JobState] = mapped_column(stored(JobState), default=JobState.QUEUED)
    done: Mapped[int] = mapped_column(BIG, default=0)
    total: Mapped[int] = mapped_column(BIG, default=0)
    text: Mapped[str] = mapped_column(String(255), default="")
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True), default=None)
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True), default=None)
    attempts: Mapped[int] = mapped_column(default=0)
    epoch: Mapped[int] = mapped_column(default=0)
    owner: Mapped[str] = mapped_column(_ID, default="")
    lease_until: Mapped[float] = mapped_column(Double, default=0.0)
    not_before: Mapped[float] = mapped_column(Double, default=0.0)
    started: Mapped[float] = mapped_column(Double, default=0.0)
    ended: Mapped[float] = mapped_column(Double, default=0.0)

    def take(self, event: JobEvent, reason: str = "") -> None:
        """Move on, which is recorded with its reason; raises `IllegalTransition` where it does not fit."""
        with requested_by(self.request_id):
            move(self, JOB, event, reason)


def job_of(session: Session, job: str, *, lock: bool = False) -> Job:
    """Return a job by its id, or raise `NotFound`.

    Args:
        lock: nobody else changes it until the transaction ends.
    """
    chosen = select(Job).where(Job.id == job)
    found = session.scalars(chosen.with_for_update() if lock else chosen).one_or_none()
    if found is None:
        raise NotFound(f"there is no job {job}")
    return found
