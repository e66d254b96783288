"""Asking for work, looking at it, and calling it off."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from ..catalog import Catalog, publish, requested_by
from ..spi.errors import Conflict, InvalidArgument
from .states import JobEvent, JobState
from .table import Job, job_of

MAX_PAGE = 1000
_FINGERPRINT = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is asked for; see `Job` for the fields."""

    kind: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    tenant: str = ""
    host: str = ""
    pool: str = ""
    priority: int = 0
    request_id: str = ""
    idempotency_key: str | None = None

    def fingerprint(self) -> str:
        """Tell this order from another one under the same idempotency key."""
        said = json.dumps([self.kind, self.arguments, self.host, self.pool, self.priority], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:_FINGERPRINT]


class Orders:
    """The jobs of a catalog, as those see them who want something done. Safe for threads.

    Args:
        clock: seconds since 1970.
        new_id: makes ids of jobs and requests.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        clock: Callable[[], float] = time.time,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self._catalog = catalog
        self._clock = clock
        self._new_id = new_id
        self._listeners: list[Callable[[], None]] = []

    def listen(self, wake: Callable[[], None]) -> None:
        """Have `wake` called after each order and each cancellation of this process."""
        self._listeners.append(wake)

    def submit(self, order: Order) -> Job:
        """Put an order into the queue; it is durable when this returns.

        With an idempotency key that the tenant has used before, the job of that time is returned.

        Raises:
            Conflict: the key belongs to another order.
        """
        try:
            # Orders of different tenants do not meet, and claims see an order when it is committed.
            with self._catalog.transaction(scope=f"orders:{order.tenant}") as session:
                job = self._known(session, order) or self._put(session, order)
        except Conflict:
            # Two with the same key at the same moment: the database let one of them through.
            with self._catalog.reading() as session:
                known = self._known(session, order)
            if known is None:
                raise
            job = known
        self._wake()
        return job

    def _known(self, session: Session, order: Order) -> Job | None:
        if order.idempotency_key is None:
            return None
        chosen = select(Job).where(Job.tenant == order.tenant, Job.idempotency_key == order.idempotency_key)
        job = session.scalars(chosen).one_or_none()
        if job is not None and job.fingerprint != order.fingerprint():
            raise Conflict("the idempotency key belongs to another order")
        return job

    def _put(self, session: Session, order: Order) -> Job:
        job = Job(
            id=self._new_id(),
            kind=order.kind,
            arguments=dict(order.arguments),
            created=self._clock(),
            request_id=order.request_id or self._new_id(),
            tenant=order.tenant,
            host=order.host,
            pool=order.pool,
            priority=order.priority,
            idempotency_key=order.idempotency_key,
            fingerprint=order.fingerprint(),
        )
        session.add(job)
        session.flush()
        with requested_by(job.request_id):
            publish(session, "job", job.id, job.state, {"kind": job.kind, "tenant": job.tenant})
        return job

    def get(self, job: str) -> Job:
        """Return a job as it is now, or raise `NotFound`."""
        with self._catalog.reading() as session:
            return job_of(session, job)

    def page(
        self,
        *,
        after: int = 0,
        limit: int = 100,
        state: JobState | None = None,
        tenant: str | None = None,
    ) -> Sequence[Job]:
        """Return jobs, oldest first: at most `limit` whose number is above `after`.

        Raises:
            InvalidArgument: the limit is not between 1 and 1000.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise InvalidArgument(f"a page holds 1 to {MAX_PAGE} jobs")
        chosen = select(Job).where(Job.number > after)
        if state is not None:
            chosen = chosen.where(Job.state == state)
        if tenant is not None:
            chosen = chosen.where(Job.tenant == tenant)
        with self._catalog.reading() as session:
            return session.scalars(chosen.order_by(Job.number).limit(limit)).all()

    def counts(self) -> Mapping[JobState, int]:
        """Return how many jobs there are in each state."""
        with self._catalog.reading() as session:
            rows = session.execute(select(Job.state, func.count()).group_by(Job.state))
            return dict.fromkeys(JobState, 0) | {row[0]: row[1] for row in rows}

    def cancel(self, job: str, *, reason: str = "") -> Job:
        """Ask for a job to end: at once if it waits, else as soon as its driver looks. Repeatable.

        A job that is over stays what it is.

        Raises:
            NotFound: there is no such job.
        """
        with self._catalog.transaction(scope=f"job:{job}") as session:
            found = job_of(session, job, lock=True)
            if found.state is JobState.QUEUED:
                found.ended = self._clock()
            if not found.state.over:
                found.take(JobEvent.CANCEL_REQUESTED, reason)
        self._wake()
        return found

    def prune(self, *, older_than: float, limit: int = MAX_PAGE) -> int:
        """Remove jobs that ended more than `older_than` seconds ago, at most `limit`; return how many."""
        before = self._clock() - older_than
        old = select(Job.number).where(Job.ended > 0, Job.ended < before).limit(limit)
        with self._catalog.transaction() as session:
            numbers = session.scalars(old).all()
            session.execute(delete(Job).where(Job.number.in_(numbers)))
        return len(numbers)

    def _wake(self) -> None:
        for wake in self._listeners:
            wake()
