"""The closed taxonomy: every failure of a driver is one of these fifteen, and says what happened.

    StorageError
    ├── InvalidArgument    the request breaks a rule; nothing was done; repeating it is useless
    ├── NotFound           the named object is not there
    ├── Conflict           the id exists with another spec
    ├── InUse              attached, granted or busy for a user who must let go first
    ├── HasDependents      snapshots or clones must go first
    ├── OutOfCapacity      the pool or store is full
    ├── LimitExceeded      a count or size limit (volumes, snapshots, quota, name length)
    ├── Unsupported        the capability is not declared, or not for this object
    ├── Unauthenticated    credentials are wrong or expired
    ├── PermissionDenied   credentials are right, the act is not allowed
    ├── Busy               another operation on the object is running      (retry)
    ├── Unavailable        the backend cannot be reached or is restarting  (retry)
    ├── DeadlineExceeded   the call's deadline passed                      (retry with more time)
    ├── DataLoss           bytes are wrong or gone; never retried silently
    └── Internal           a bug in the driver or an answer that makes no sense

Each *instance* carries an `outcome`: what the caller may assume about the backend.

    NOT_APPLIED   nothing changed           -> try elsewhere, tell the user
    UNKNOWN       the request may have run  -> repeat (every operation is idempotent) or look
    APPLIED       it ran, the answer is bad -> do not repeat, look

The three words are those that a lost reply forces on everybody (vsphere-csi#2507, HPE CON-2642):
a driver that says "failed" for all three leaks a LUN sooner or later.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class Outcome(StrEnum):
    """What is known about the backend after an error."""

    NOT_APPLIED = "not_applied"
    UNKNOWN = "unknown"
    APPLIED = "applied"


class StorageError(Exception):
    """Base of the taxonomy.

    Args:
        message: safe to show to a tenant; names the field and the rule, never a secret.
        outcome: what the caller may assume about the backend.
        detail: for operators; redacted by core before it is logged.
        retry_after: seconds the backend asked us to wait, or None.
    """

    code: ClassVar[str] = "storage_error"
    retryable: ClassVar[bool] = False
    default_outcome: ClassVar[Outcome] = Outcome.NOT_APPLIED

    def __init__(
        self,
        message: str,
        *,
        outcome: Outcome | None = None,
        detail: str = "",
        retry_after: float | None = None,
    ) -> None:
        self.message = _writable(message)
        super().__init__(self.message)
        self.outcome = outcome or self.default_outcome
        self.detail = detail
        self.retry_after = retry_after

    def to_json(self) -> dict[str, object]:
        """Return the error as plain JSON values (for `--json`, reports and the driver host)."""
        return {
            "code": self.code,
            "message": self.message,
            "outcome": self.outcome.value,
            "retryable": self.retryable,
        }


_LONGEST = 8192
"""Characters of a message; the wire takes 65,535 bytes."""


def _writable(text: str) -> str:
    """Return a text that every database, wire and log takes.

    The name of a file that is no UTF-8 has half surrogates in it, which nothing encodes: an agent gave no
    answer for it at all, and a worker died of it. PostgreSQL's texts hold no NUL.
    """
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 1] + "…"
    if text.isascii() and "\0" not in text:
        return text
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\0")


class InvalidArgument(StorageError):
    """The request breaks a rule."""

    code = "invalid_argument"


class NotFound(StorageError):
    """The named object does not exist."""

    code = "not_found"


class Conflict(StorageError):
    """The id exists with another spec."""

    code = "conflict"


class InUse(StorageError):
    """The object is attached, granted or otherwise in use."""

    code = "in_use"


class HasDependents(StorageError):
    """Snapshots or clones depend on the object."""

    code = "has_dependents"


class OutOfCapacity(StorageError):
    """There is no space left."""

    code = "out_of_capacity"


class LimitExceeded(StorageError):
    """A limit on count or size is reached."""

    code = "limit_exceeded"


class Unsupported(StorageError):
    """The driver does not do this."""

    code = "unsupported"


class Unauthenticated(StorageError):
    """The credentials are wrong or expired."""

    code = "unauthenticated"


class PermissionDenied(StorageError):
    """The credentials do not allow this."""

    code = "permission_denied"


class Busy(StorageError):
    """Another operation is running on the object."""

    code = "busy"
    retryable = True


class Unavailable(StorageError):
    """The backend cannot be reached."""

    code = "unavailable"
    retryable = True
    default_outcome = Outcome.UNKNOWN


class DeadlineExceeded(StorageError):
    """The deadline of the call has passed."""

    code = "deadline_exceeded"
    retryable = True
    default_outcome = Outcome.UNKNOWN


class DataLoss(StorageError):
    """Bytes are wrong or gone."""

    code = "data_loss"


class Internal(StorageError):
    """A bug, or an answer that makes no sense."""

    code = "internal"
    default_outcome = Outcome.UNKNOWN


TAXONOMY: tuple[type[StorageError], ...] = (
    InvalidArgument,
    NotFound,
    Conflict,
    InUse,
    HasDependents,
    OutOfCapacity,
    LimitExceeded,
    Unsupported,
    Unauthenticated,
    PermissionDenied,
    Busy,
    Unavailable,
    DeadlineExceeded,
    DataLoss,
    Internal,
)


def error_class(code: str) -> type[StorageError]:
    """Return the class with this `code`; an unknown code (a newer peer) is `Internal`."""
    return next((cls for cls in TAXONOMY if cls.code == code), Internal)
