"""What the array answers when it refuses: one exception, a code, and the HTTP status of each code."""

from __future__ import annotations

STATUS = {
    "invalid_argument": 400,
    "shrink_not_allowed": 400,
    "bad_credentials": 401,
    "unauthenticated": 401,
    "token_expired": 401,
    "not_found": 404,
    "method_not_allowed": 405,
    "name_exists": 409,
    "in_use": 409,
    "has_dependents": 409,
    "busy": 409,
    "grant_exists": 409,
    "limit_exceeded": 409,
    "idempotency_key_reused": 422,
    "rate_limited": 429,
    "internal_error": 500,
    "session_limit": 503,
    "out_of_space": 507,
}


class ArrayError(Exception):
    """A refusal; nothing was changed.

    Args:
        code: a key of :data:`STATUS`.
        message: for a person; holds no secret.
        field: the request's field that is to blame.
        retry_after: seconds, for the Retry-After header.
    """

    def __init__(
        self, code: str, message: str, field: str | None = None, *, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.retry_after = retry_after

    @property
    def status(self) -> int:
        """The HTTP status."""
        return STATUS[self.code]

    def to_json(self) -> dict[str, object]:
        """The body of the answer."""
        return {"code": self.code, "message": self.message, "field": self.field}


def invalid(field: str, message: str) -> ArrayError:
    """The commonest refusal."""
    return ArrayError("invalid_argument", f"{field}: {message}", field)


def not_found(kind: str, key: str, field: str | None = None) -> ArrayError:
    """No such object."""
    return ArrayError("not_found", f"no {kind} {key!r}", field)
