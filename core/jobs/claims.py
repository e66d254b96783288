"""Which worker has which job, and whose word counts.

    claim ──> heartbeat ──> heartbeat ──> finish            the lease is renewed long before it ends
                  │
                  x kill -9      … lease_until passes ──> claim by another one: epoch + 1
                                                             │
    a worker that slept for too long says something <── refused: its epoch is old

One transaction per step. Claims take turns over all processes (`Catalog.transaction`), since a limit that two
of them look at at the same moment would be kept by neither; all else locks only its own job.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ..catalog import Catalog
from ..spi.errors import Conflict, Internal, StorageError
from .limits import JobLimits, Lane, Running, in_order
from .retry import RetryPolicy
from .states import HELD, JobEvent, JobState
from .table import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to do a job, for as long as the lease lasts."""

    job: Job
    epoch: int
    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """What a worker tells of a job that it has: the same fields as `Job`."""

    done: int = 0
    total: int = 0
    text: str = ""


class Claims:
    """Hands the jobs of a catalog to workers. Safe for threads and for several processes.

    Args:
        lease: seconds for which a worker may be silent. Clocks of all machines must agree better than that.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        limits: JobLimits | None = None,
        retry: RetryPolicy | None = None,
        lease: float = 60.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._catalog = catalog
        self._limits = limits or JobLimits()
        self._retry = retry or RetryPolicy()
        self.lease = lease
        self._clock = clock

    def claim(self, owner: str, kinds: Collection[str]) -> Claim | None:
        """Return a job to do, or None: first what a dead worker left, then what waits.

        Args:
            owner: unique among all workers, and never used again after a restart.
            kinds: what the worker can do.
        """
        with self._catalog.transaction() as session:
            job = self._orphan(session, kinds) or self._next(session, kinds)
            if job is None:
                return None
            job.take(JobEvent.CLAIMED if job.state is JobState.QUEUED else JobEvent.TAKEN_OVER, owner)
            job.attempts += 1
            job.epoch += 1
            job.owner = owner
            job.lease_until = self._clock() + self.lease
            job.started = job.started or self._clock()
            return Claim(job=job, epoch=job.epoch, owner=owner)

    def _orphan(self, session: Session, kinds: Collection[str]) -> Job | None:
        while True:
            chosen = select(Job).where(
                Job.state.in_(HELD), Job.lease_until < self._clock(), Job.kind.in_(kinds)
            )
            oldest = chosen.order_by(Job.number).limit(1).with_for_update(skip_locked=True)
            job = session.scalars(oldest).one_or_none()
            if job is None or job.attempts < self._retry.attempts:
                return job
            error = Internal(f"{job.attempts} workers died or were lost while they did it")
            self._end(job, JobEvent.FAILED, error=error)
            session.flush()

    def _next(self, session: Session, kinds: Collection[str]) -> Job | None:
        for lane in in_order(self._lanes(session, kinds), _running(session), self._limits):
            chosen = select(Job).where(Job.number == lane.first, Job.state == JobState.QUEUED)
            # Who cancels it just now has it locked.
            job = session.scalars(chosen.with_for_update(skip_locked=True)).one_or_none()
            if job is not None:
                return job
        return None

    def _lanes(self, session: Session, kinds: Collection[str]) -> list[Lane]:
        alike = (Job.tenant, Job.host, Job.pool, Job.priority)
        waiting = select(*alike, func.min(Job.number)).where(
            Job.state == JobState.QUEUED, Job.kind.in_(kinds), Job.not_before <= self._clock()
        )
        return [Lane(*row) for row in session.execute(waiting.group_by(*alike))]

    def heartbeat(self, claim: Claim, beat: Beat) -> JobState:
        """Renew the lease and tell how far the job is; return its state: it may be cancelled.

        Raises:
            Conflict: another worker has the job by now; whatever this one does must end.
        """
        with self._catalog.transaction(scope=f"job:{claim.job.id}") as session:
            job = _mine(session, claim)
            job.lease_until = self._clock() + self.lease
            _note(job, beat)
            return job.state

    def succeed(self, claim: Claim, beat: Beat, result: Mapping[str, Any]) -> None:
        """Record that the job is done. Raises `Conflict` if another worker has it."""
        with self._catalog.transaction(scope=f"job:{claim.job.id}") as session:
            job = _mine(session, claim)
            _note(job, beat)
            self._end(job, JobEvent.SUCCEEDED, result=result)

    def fail(self, claim: Claim, beat: Beat, error: StorageError) -> JobState:
        """Record that an attempt failed; return what became of the job: it waits, failed or was cancelled.

        Raises:
            Conflict: another worker has it.
        """
        with self._catalog.transaction(scope=f"job:{claim.job.id}") as session:
            job = _mine(session, claim)
            _note(job, beat)
            wait = self._retry.wait(error, job.attempts)
            if job.state is JobState.CANCELLING:
                self._end(job, JobEvent.CANCELLED, error=error)
            elif wait is None:
                self._end(job, JobEvent.FAILED, error=error)
            else:
                job.take(JobEvent.RETRY, f"{error.code}: {error.message}")
                job.error, job.not_before = error.to_json(), self._clock() + wait
                _let_go(job)
            return job.state

    def release(self, claim: Claim) -> None:
        """Give a job back that was interrupted because its worker stops; it does not count as an attempt.

        Raises:
            Conflict: another worker has it.
        """
        with self._catalog.transaction(scope=f"job:{claim.job.id}") as session:
            job = _mine(session, claim)
            if job.state is JobState.CANCELLING:
                self._end(job, JobEvent.CANCELLED)
                return
            job.take(JobEvent.RELEASED)
            job.attempts -= 1
            _let_go(job)

    def _end(
        self,
        job: Job,
        event: JobEvent,
        *,
        result: Mapping[str, Any] | None = None,
        error: StorageError | None = None,
    ) -> None:
        job.take(event, "" if error is None else f"{error.code}: {error.message}")
        job.result = None if result is None else dict(result)
        job.error = None if error is None else error.to_json()
        job.ended = self._clock()
        _let_go(job)


def _running(session: Session) -> list[Running]:
    held = select(Job.tenant, Job.host, Job.pool).where(Job.state.in_(HELD))
    return [Running(*row) for row in session.execute(held)]


def _mine(session: Session, claim: Claim) -> Job:
    chosen = select(Job).where(
        Job.number == claim.job.number,
        Job.epoch == claim.epoch,
        Job.owner == claim.owner,
        Job.state.in_(HELD),
    )
    job = session.scalars(chosen.with_for_update()).one_or_none()
    if job is None:
        raise Conflict(f"job {claim.job.id} has another worker by now")
    return job


def _note(job: Job, beat: Beat) -> None:
    job.done, job.total, job.text = beat.done, beat.total, beat.text[:255]


def _let_go(job: Job) -> None:
    job.owner, job.lease_until = "", 0.0
