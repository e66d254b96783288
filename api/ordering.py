"""POST /v1/commands, /v1/sync, /v1/sweep: an order becomes a job."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from starlette.requests import ClientDisconnect

from ..core.jobs import Job, Order
from ..core.jobs.command_classes import command_class
from ..core.jobs.commands import command_order
from ..core.spi.errors import InvalidArgument
from ..transfer_objects.cloudstack import Payload
from ..transfer_objects.commands import Answer, Command
from ..transfer_objects.native import decode
from .document import CLOUDSTACK, command_body
from .models import JobView
from .problems import request_id
from .services import Admin, Operator, Services, Using
from .tokens import Token

router = APIRouter(prefix="/v1", tags=["orders"])

_ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {
        "description": "Accepted; the job is at Location.",
        "headers": {"Location": {"schema": {"type": "string"}, "description": "Path of the job."}},
    }
}

Priority = Annotated[int, Query(ge=-100, le=100, description="Higher comes first.")]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Your own name for this order: sent again, it gives the same job.",
    ),
]
Host = Annotated[
    str,
    Query(
        max_length=255,
        pattern=r"^[A-Za-z0-9._:-]*$",
        description="Host that it burdens: a limit holds per host.",
    ),
]


async def _body(request: Request) -> bytes:
    """Read it here: routes run in threads, where nothing can be awaited."""
    try:
        return await request.body()
    except ClientDisconnect as error:  # nobody reads the answer; a log full of traces is for nobody, either
        raise InvalidArgument("the request ended before its body did") from error


@router.post(
    "/commands",
    status_code=202,
    responses=_ACCEPTED,
    openapi_extra={"requestBody": command_body()},
    operation_id="orderCommand",
)
def order_command(
    request: Request,
    response: Response,
    using: Using,
    token: Operator,
    body: Annotated[bytes, Depends(_body)],
    host: Host = "",
    priority: Priority = 0,
    key: Key = None,
) -> JobView:
    """Have a command carried out: Bollard's JSON, or CloudStack's (by its media type)."""
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    command = _from_cloudstack(body) if kind == CLOUDSTACK else _from_native(body)
    order = command_order(command, _order(request, token, priority, key, host=host))
    return _accepted(using, order, response)


@router.post("/sync", status_code=202, responses=_ACCEPTED, operation_id="orderSync")
def order_sync(
    request: Request,
    response: Response,
    using: Using,
    token: Operator,
    vm: Annotated[str, Query(pattern=r"^[A-Za-z0-9._-]{0,64}$", description="Only what belongs to it.")] = "",
    host: Annotated[
        str, Query(pattern=r"^[A-Za-z0-9._-]{0,64}$", description="Only what happens on it.")
    ] = "",
    dry_run: Annotated[bool, Query(description="Only tell what is under way.")] = False,
    key: Key = None,
) -> JobView:
    """End what dead processes left under way, by asking the backends."""
    arguments = {"vm": vm, "host": host, "dry_run": dry_run}
    return _accepted(using, _order(request, token, 0, key, kind="sync", arguments=arguments), response)


@router.post("/sweep", status_code=202, responses=_ACCEPTED, operation_id="orderSweep")
def order_sweep(
    request: Request,
    response: Response,
    using: Using,
    token: Admin,
    dry_run: Annotated[bool, Query(description="Only tell what would be removed.")] = True,
    key: Key = None,
) -> JobView:
    """Remove what carries Bollard's mark and nobody owns."""
    arguments = {"dry_run": dry_run}
    return _accepted(using, _order(request, token, 0, key, kind="sweep", arguments=arguments), response)


def _order(
    request: Request,
    token: Token,
    priority: int,
    key: str | None,
    *,
    kind: str = "",
    host: str = "",
    **fields: Any,
) -> Order:
    return Order(
        kind=kind,
        tenant=token.name,
        host=host,
        priority=priority,
        request_id=request_id(request),
        idempotency_key=key,
        **fields,
    )


def _accepted(using: Services, order: Order, response: Response) -> JobView:
    job: Job = using.orders.submit(order)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return JobView.of(job)


def _from_native(body: bytes) -> Command:
    try:
        tree = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument("the body must be JSON") from error
    name = tree.get("type") if isinstance(tree, dict) else None
    if not isinstance(name, str):
        raise InvalidArgument('the body must be an object with a "type": the class of the command')
    # Read once more, strictly: no key twice, no number out of range.
    return decode(body, command_class(name))


def _from_cloudstack(body: bytes) -> Command:
    objects = Payload.from_wire(body).objects()
    if len(objects) != 1:
        raise InvalidArgument("one command per request")
    [command] = objects
    if not isinstance(command, Command) or isinstance(command, Answer):
        raise InvalidArgument(f"{type(command).__name__} is no command")
    return command
