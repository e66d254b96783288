"""What answers hold; pydantic turns it into the OpenAPI document."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field

from ..core.jobs import Job, JobState
from ..core.service.recovery_loop import RecoveryState


class Problem(BaseModel):
    """Why a request was not carried out (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str = Field(description="Of the closed taxonomy, e.g. not_found, busy, conflict.")
    outcome: str = Field(description="not_applied, unknown or applied: what is known about the effect.")
    retryable: bool
    request_id: str


class Failure(BaseModel):
    """Why an attempt of a job failed."""

    code: str
    message: str
    outcome: str
    retryable: bool


class Progress(BaseModel):
    """How far a job is; bytes or steps, 0 of 0 until it is known."""

    done: int
    total: int
    text: str


class JobView(BaseModel):
    """A job, as everybody with a token sees it."""

    id: str
    kind: str
    state: JobState
    over: bool = Field(description="It will not change any more.")
    progress: Progress
    result: dict[str, Any] | None
    error: Failure | None = Field(description="Of the last attempt.")
    attempts: int
    priority: int
    tenant: str = Field(description="Name of the token that ordered it.")
    host: str
    pool: str
    request_id: str
    created: datetime
    started: datetime | None
    ended: datetime | None

    @classmethod
    def of(cls, job: Job) -> JobView:
        """Return the view of a job; its arguments are not shown."""
        return cls(
            id=job.id,
            kind=job.kind,
            state=job.state,
            over=job.state.over,
            progress=Progress(done=job.done, total=job.total, text=job.text),
            result=job.result,
            error=Failure(**job.error) if job.error else None,
            attempts=job.attempts,
            priority=job.priority,
            tenant=job.tenant,
            host=job.host,
            pool=job.pool,
            request_id=job.request_id,
            created=time_of(job.created),
            started=time_of(job.started) if job.started else None,
            ended=time_of(job.ended) if job.ended else None,
        )


class JobPage(BaseModel):
    """Some jobs, oldest first."""

    items: list[JobView]
    next: str | None = Field(description="Give it as `after` for the next page; null on the last one.")


class SyncHealth(BaseModel):
    """How far the server is with what dead processes left."""

    running: bool
    rounds: int = Field(description="That are over.")
    ended: int = Field(description="Objects that rest because of it.")
    waiting: int = Field(description="Objects that could not be ended yet; -1: the records cannot be read.")
    at: datetime | None = Field(description="When the last round was over.")

    @classmethod
    def of(cls, state: RecoveryState) -> SyncHealth:
        """Return the view of a state."""
        return cls(
            running=state.running,
            rounds=state.rounds,
            ended=state.ended,
            waiting=state.waiting,
            at=time_of(state.at) if state.rounds else None,
        )


class Health(BaseModel):
    """Whether the server can work."""

    status: str
    version: str
    sync: SyncHealth | None = Field(default=None, description="Null: this server does no sync by itself.")


def time_of(seconds: float) -> datetime:
    """Return seconds since 1970 as a time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)
