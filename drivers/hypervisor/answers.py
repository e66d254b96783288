"""What the cluster says, in the words of the taxonomy.

JSON with a code we know    the code's class    not applied: the cluster refused
other JSON, no JSON         Internal, Unavailable for gateways: unknown if something was to change
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

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


class DuplicateSignature(Conflict):
    """The host knows an object that this one is a copy of; it takes the copy under a new signature."""


T = TypeVar("T")
Json = dict[str, Any]

_BY_CODE: Mapping[str, type[StorageError]] = {
    "bad_request": InvalidArgument,
    "not_running": InvalidArgument,
    "no_disk": InvalidArgument,
    "not_found": NotFound,
    "no_such_storage": NotFound,
    "conflict": Conflict,
    "duplicate_signature": DuplicateSignature,
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


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer to a request of this method, read to its end."""

    method: str
    status: int
    content_type: str
    body: bytes

    @classmethod
    def of(cls, method: str, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> Reply:
        """Take of the headers what is of interest."""
        kind = next((value for name, value in headers if name.lower() == b"content-type"), b"")
        return cls(method, status, kind.decode("latin-1").partition(";")[0], body)

    def json(self) -> Any:
        """Return the JSON, or None if it is something else."""
        if self.content_type != "application/json":
            return None
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


def content_of(reply: Reply, what: str) -> Any:
    """Return the JSON of a successful answer; None for "no content".

    Args:
        reply: of the cluster, or of what stands in its place.
        what: the request, for messages.

    Raises:
        StorageError: for everything else than success.
    """
    if reply.status == 204:
        return None
    content = reply.json()
    if content is not None and 200 <= reply.status < 300:
        return content
    raise _failure(reply, what, content)


def _failure(reply: Reply, what: str, content: Any) -> StorageError:
    unsure = Outcome.NOT_APPLIED if reply.method == "GET" else Outcome.UNKNOWN
    if not isinstance(content, dict):
        foreign = Unavailable if reply.status in _GATEWAY else Internal
        return foreign(
            f"{what}: answer {reply.status} is not the cluster's (not a JSON object)", outcome=unsure
        )
    code, told = str(content.get("error")), str(content.get("message", ""))[:_MESSAGE]
    known = _BY_CODE.get(code)
    if known is not None:
        return known(f"{what}: {told}", outcome=Outcome.NOT_APPLIED)
    broken = _BROKEN_OFF.get(code, Internal)
    return broken(f"{what}: the cluster failed ({reply.status}): {told}", outcome=unsure)


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
