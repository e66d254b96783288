"""What a database says, in our words: which error, and whether the transaction took effect.

Before COMMIT is sent nothing has: whatever happens to the connection, the server rolls back. An answer
to COMMIT is an answer; only a connection that breaks in between leaves it open.
"""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from ..spi.errors import (
    Busy,
    Conflict,
    Internal,
    NotFound,
    Outcome,
    OutOfCapacity,
    PermissionDenied,
    StorageError,
    Unauthenticated,
    Unavailable,
)

# PostgreSQL's codes. https://www.postgresql.org/docs/15/errcodes-appendix.html
_CONTENDED = {
    "40001": "the catalog has changed meanwhile",  # serialization_failure
    "40P01": "two users of the catalog waited for each other",  # deadlock_detected
    "55P03": "the catalog is locked by another process",  # lock_not_available: lock_timeout
    "57014": "a statement to the catalog took too long",  # query_canceled: statement_timeout
    "25P03": "a transaction on the catalog stood still for too long",  # idle_in_transaction_session_timeout
}
_REFUSED: dict[str, tuple[type[StorageError], str]] = {
    "28000": (Unauthenticated, "the catalog's database does not accept the user"),
    "28P01": (Unauthenticated, "the catalog's database does not accept the password"),
    "3D000": (NotFound, "the catalog's database does not exist"),
    "42501": (PermissionDenied, "the catalog's database does not allow it to this user"),
    "53100": (OutOfCapacity, "the disk of the catalog's database is full"),
}
_WORDS = {"authentication failed": "28P01", "does not exist": "3D000"}
_UNREACHABLE = {
    "53300",  # too_many_connections
    "57P01",  # admin_shutdown
    "57P02",  # crash_shutdown
    "57P03",  # cannot_connect_now
}


class Contended(Busy):
    """Another transaction was in the way; nothing was changed. `Catalog.run` tries again."""


def storage_error(error: SQLAlchemyError, *, committing: bool) -> StorageError:
    """Return what to raise instead of a database's error.

    Args:
        committing: COMMIT was sent.
    """
    if isinstance(error, IntegrityError):
        return Conflict("another process was first")
    if isinstance(error, PoolTimeoutError):
        return Contended("the catalog's connections are all in use")
    if isinstance(error, DBAPIError):
        return _of_database(error, committing=committing)
    return _internal(committing=committing)


def _of_database(error: DBAPIError, *, committing: bool) -> StorageError:
    code = getattr(error.orig, "sqlstate", None)
    said = str(error.orig)
    if code in _CONTENDED:
        return Contended(_CONTENDED[code])
    if "is locked" in said:
        return Contended("the catalog is locked by another process")
    if code in _REFUSED:
        refusal, message = _REFUSED[code]
        return refusal(message)
    if "database or disk is full" in said:
        return OutOfCapacity("the disk of the catalog is full")
    if error.connection_invalidated or _lost(error, code):
        return _unreachable(said, committing=committing)
    return _internal(committing=committing)


def _lost(error: DBAPIError, code: str | None) -> bool:
    if code is None:  # not the server's words: the connection's
        return (
            type(error.orig).__module__.startswith("psycopg")
            and type(error.orig).__name__ == "OperationalError"
        )
    return code in _UNREACHABLE or code.startswith("08")


def _unreachable(said: str, *, committing: bool) -> StorageError:
    # libpq gives no code while it connects, only the server's words; those of another language are not known.
    for words, code in _WORDS.items():
        if words in said:
            refusal, message = _REFUSED[code]
            return refusal(message, detail=said)
    outcome = Outcome.UNKNOWN if committing else Outcome.NOT_APPLIED
    return Unavailable("the catalog's database cannot be reached", outcome=outcome, detail=said)


def _internal(*, committing: bool) -> StorageError:
    return Internal("the catalog failed", outcome=Outcome.UNKNOWN if committing else Outcome.NOT_APPLIED)
