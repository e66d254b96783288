"""What the cluster says, in the words of the taxonomy.

JSON with a code we know    the code's class    not applied: the cluster refused
other JSON, no JSON         Internal, Unavailable for gateways: unknown if something was to change
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

import httpx

from ...core.spi import (
    Busy,
    Conflict,
    DataLoss,
    HasDependents,
    Internal,
    InUse,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    Outcome,
    StorageError,
    Unavailable,
    Unsupported,
)

T = TypeVar("T")
Json = dict[str, Any]

_BY_CODE: Mapping[str, type[StorageError]] = {
    "bad_request": InvalidArgument,
    "not_running": InvalidArgument,
    "no_disk": InvalidArgument,
    "not_found": NotFound,
    "no_such_storage": NotFound,
    "conflict": Conflict,
    "in_use": InUse,
    "wrong_state": InUse,  # a VM that runs keeps its disks from being put back
    "has_snapshots": HasDependents,
    "limit": LimitExceeded,
    "wrong_identity": DataLoss,
    "wrong_size": DataLoss,
    "wrong_format": DataLoss,
    "unsupported": Unsupported,
    "agent_missing": Unsupported,  # for this VM
    "busy": Busy,
    "frozen": Busy,
    "unavailable": Unavailable,
    "host_unavailable": Unavailable,
}
# Codes of something that began and was not seen to its end.
_BROKEN_OFF: Mapping[str, type[StorageError]] = {"agent_timeout": Unavailable, "storage_failed": Unavailable}
_GATEWAY = (502, 503, 504)
_MESSAGE = 300  # characters of the cluster's own words that are passed on


def content_of(response: httpx.Response, what: str) -> Any:
    """Return the JSON of a successful answer; None for "no content".

    Args:
        response: read to its end.
        what: the request, for messages.

    Raises:
        StorageError: for everything else than success.
    """
    if response.status_code == 204:
        return None
    content = _json(response)
    if content is not None and 200 <= response.status_code < 300:
        return content
    raise _failure(response, what, content)


def _json(response: httpx.Response) -> Any:
    if response.headers.get("Content-Type", "").partition(";")[0] != "application/json":
        return None
    try:
        return json.loads(response.content)
    except (ValueError, RecursionError):
        return None


def _failure(response: httpx.Response, what: str, content: Any) -> StorageError:
    unsure = Outcome.NOT_APPLIED if response.request.method == "GET" else Outcome.UNKNOWN
    status = response.status_code
    if not isinstance(content, dict):
        kind = Unavailable if status in _GATEWAY else Internal
        return kind(f"{what}: answer {status} is not the cluster's (not a JSON object)", outcome=unsure)
    code, told = str(content.get("error")), str(content.get("message", ""))[:_MESSAGE]
    known = _BY_CODE.get(code)
    if known is not None:
        return known(f"{what}: {told}", outcome=Outcome.NOT_APPLIED)
    return _BROKEN_OFF.get(code, Internal)(f"{what}: the cluster failed ({status}): {told}", outcome=unsure)


def member(content: Any, key: str, kind: type[T]) -> T:
    """Return a member of an answer.

    Raises:
        Internal: it is missing or of another type; the cluster speaks another language.
    """
    value = content.get(key) if isinstance(content, dict) else None
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise Internal(f"the cluster's answer has no {kind.__name__} {key!r}")
    return value


def items(content: Any) -> list[Json]:
    """Return the objects of a list.

    Raises:
        Internal: it is none.
    """
    if not isinstance(content, list) or not all(isinstance(one, dict) for one in content):
        raise Internal("the cluster's answer is not a list of objects")
    return content
