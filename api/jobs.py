"""/v1/jobs: looking at jobs, waiting for them, calling them off."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from ..core.jobs import Job, JobState
from ..core.jobs.command_classes import answer_class
from ..core.spi.errors import Conflict
from ..transfer_objects.cloudstack import Payload
from ..transfer_objects.native import decode_tree
from .document import CLOUDSTACK
from .models import JobPage, JobView
from .services import Operator, Reader, Services, Using

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

LONGEST_WAIT = 60.0
_STREAM_SECONDS = 3600.0

JobId = Annotated[str, Path(max_length=64, pattern=r"^[A-Za-z0-9-]+$", description="The job's id.")]


@router.get("", operation_id="listJobs")
def list_jobs(
    using: Using,
    _token: Reader,
    after: Annotated[str, Query(pattern=r"^[0-9]{0,18}$", description="`next` of the page before.")] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    state: JobState | None = None,
    tenant: Annotated[str | None, Query(max_length=64, pattern=r"^[A-Za-z0-9._-]*$")] = None,
) -> JobPage:
    """List jobs, oldest first."""
    found = using.orders.page(after=int(after or 0), limit=limit, state=state, tenant=tenant)
    last = str(found[-1].number) if len(found) == limit else None
    return JobPage(items=[JobView.of(job) for job in found], next=last)


@router.get("/{job}", operation_id="getJob")
async def get_job(
    using: Using,
    _token: Reader,
    job: JobId,
    wait: Annotated[
        float, Query(ge=0, le=LONGEST_WAIT, description="Seconds to wait for its end before answering.")
    ] = 0.0,
) -> JobView:
    """Return a job; with `wait` as soon as it is over, or after that time."""
    end = time.monotonic() + wait
    found = await _look(using, job)
    while not found.state.over and time.monotonic() < end and not using.stopping.is_set():
        await asyncio.sleep(min(using.poll, max(0.0, end - time.monotonic())))
        found = await _look(using, job)
    return JobView.of(found)


@router.delete("/{job}", status_code=202, operation_id="cancelJob")
def cancel_job(using: Using, _token: Operator, job: JobId) -> JobView:
    """Ask for the end of a job. One that waits is cancelled at once; one that is over stays what it is."""
    return JobView.of(using.orders.cancel(job))


@router.get(
    "/{job}/answer",
    operation_id="getAnswer",
    response_class=Response,
    responses={
        200: {
            "description": "The answer of a command that was carried out.",
            "content": {"application/json": {"schema": {}}, CLOUDSTACK: {"schema": {}}},
        }
    },
)
def get_answer(
    using: Using,
    _token: Reader,
    job: JobId,
    accept: Annotated[str, Header(max_length=255)] = "application/json",
) -> Response:
    """Return the answer of a command: in CloudStack's JSON if that is accepted, else in Bollard's."""
    found = using.orders.get(job)
    tree = (found.result or {}).get("answer")
    if tree is None:
        raise Conflict(f"job {job} is {found.state} and has no answer of a command")
    payload = Payload.of(decode_tree(tree, answer_class(tree["type"])))
    if CLOUDSTACK in accept:
        return Response(payload.wire(), media_type=CLOUDSTACK)
    return Response(payload.native(), media_type="application/json")


@router.get(
    "/{job}/progress",
    operation_id="followJob",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events: one `job` each time it has changed, until it is over.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        }
    },
)
async def follow_job(using: Using, _token: Reader, job: JobId) -> StreamingResponse:
    """Follow a job until it is over."""
    first = await _look(using, job)
    return StreamingResponse(_changes(using, first), media_type="text/event-stream")


async def _changes(using: Services, job: Job) -> AsyncIterator[str]:
    end = time.monotonic() + _STREAM_SECONDS
    said: dict[str, Any] | None = None
    while True:
        view = JobView.of(job)
        if (now := view.model_dump()) != said:
            said = now
            yield f"event: job\ndata: {view.model_dump_json()}\n\n"
        if view.over or using.stopping.is_set() or time.monotonic() > end:
            return
        await asyncio.sleep(using.poll)
        job = await _look(using, job.id)


async def _look(using: Services, job: str) -> Job:
    return await run_in_threadpool(using.orders.get, job)
