"""What the array says, in the words of the taxonomy.

JSON with a code we know      the code's class      not applied: the array refused
JSON, other code              by HTTP status        idem
no JSON                       Unavailable (429, 502, 503, 504) or Internal: a proxy or a login page spoke,
not the array, so its 404 proves nothing about our volume
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ....core.spi import (
    Busy,
    Conflict,
    HasDependents,
    Internal,
    InUse,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    Outcome,
    OutOfCapacity,
    PermissionDenied,
    StorageError,
    Unauthenticated,
    Unavailable,
)
from ....transfer_objects.secret import REDACTED, Secret

Json = dict[str, Any]
T = TypeVar("T")

_BY_CODE: Mapping[str, type[StorageError]] = {
    "invalid_argument": InvalidArgument,
    "shrink_not_allowed": InvalidArgument,
    "bad_credentials": Unauthenticated,
    "unauthenticated": Unauthenticated,
    "token_expired": Unauthenticated,
    "not_found": NotFound,
    "name_exists": Conflict,
    "grant_exists": Conflict,
    "in_use": InUse,
    "has_dependents": HasDependents,
    "busy": Busy,
    "limit_exceeded": LimitExceeded,
    "rate_limited": Busy,
    "session_limit": Unavailable,
    "out_of_space": OutOfCapacity,
}
_BY_STATUS: Mapping[int, type[StorageError]] = {
    400: InvalidArgument,
    401: Unauthenticated,
    403: PermissionDenied,
    404: NotFound,
    409: Conflict,
    422: InvalidArgument,
    429: Busy,
    503: Unavailable,
    507: OutOfCapacity,
}
_GATEWAY = (429, 502, 503, 504)  # load balancers throttle in HTML as well
_MESSAGE = 300  # characters of the array's own words that are passed on


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, read to its end.

    Attributes:
        retry_after: seconds that the array asks us to wait, or None.
    """

    status: int
    content_type: str
    body: bytes
    retry_after: float | None = None

    def json(self) -> Json | None:
        """Return the JSON object, or None if there is none."""
        if self.content_type.partition(";")[0].strip().lower() != "application/json":
            return None
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None

    def code(self) -> str:
        """Return the array's error code, empty if it has none."""
        value = (self.json() or {}).get("code")
        return value if isinstance(value, str) else ""


def content_of(answer: Answer, what: str, *, writes: bool, secrets: Iterable[Secret] = ()) -> Json:
    """Return what a successful answer says; {} for "no content".

    Args:
        answer: of the array, or of what stands in its place.
        what: the request, for messages.
        writes: whether the request changes something.
        secrets: what the request contained, and an unfriendly array may repeat.

    Raises:
        StorageError: for everything else than success.
    """
    if answer.status == 204:
        return {}
    content = answer.json()
    if content is not None and 200 <= answer.status < 300:
        return content
    raise _failure(answer, what, content, secrets, Outcome.UNKNOWN if writes else Outcome.NOT_APPLIED)


def _failure(
    answer: Answer, what: str, content: Json | None, secrets: Iterable[Secret], unsure: Outcome
) -> StorageError:
    if 300 <= answer.status < 400:
        return Internal(f"{what}: the array points to another place; redirects are refused", outcome=unsure)
    if content is None:
        kind: type[StorageError] = Unavailable if answer.status in _GATEWAY else Internal
        message = f"{what}: answer {answer.status} is not the array's (not JSON): a proxy or a login page?"
        return kind(message, outcome=unsure, retry_after=answer.retry_after)
    code = answer.code()
    known = _BY_CODE.get(code) or _BY_STATUS.get(answer.status)
    told = _without(secrets, str(content.get("message", "")))[:_MESSAGE]
    if known is None:
        return Internal(f"{what}: the array failed ({answer.status} {code}): {told}", outcome=unsure)
    return known(f"{what}: {told or code}", outcome=Outcome.NOT_APPLIED, retry_after=answer.retry_after)


def _without(secrets: Iterable[Secret], text: str) -> str:
    for secret in secrets:
        if secret:
            text = text.replace(secret.reveal(), REDACTED)
    return text


def member(content: Json, key: str, kind: type[T]) -> T:
    """Return a member of an answer.

    Raises:
        Internal: it is missing or of another type; the array speaks another language.
    """
    value = content.get(key)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise Internal(f"the array's answer has no {kind.__name__} {key!r}")
    return value
