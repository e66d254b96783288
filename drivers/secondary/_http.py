"""What an HTTP status of an object store means in the taxonomy."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from ...core.spi import (
    Busy,
    Conflict,
    DataLoss,
    Internal,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    OutOfCapacity,
    PermissionDenied,
    StorageError,
    Unauthenticated,
    Unavailable,
    Unsupported,
)

_STATUS: Mapping[int, type[StorageError]] = {
    400: InvalidArgument,
    401: Unauthenticated,
    403: PermissionDenied,
    404: NotFound,
    405: Unsupported,
    408: Unavailable,
    409: Busy,  # S3: another conditional write on the key; Swift: a segment is not there (yet)
    412: Conflict,
    413: LimitExceeded,
    416: InvalidArgument,
    422: DataLoss,
    429: Busy,
    498: Busy,  # Swift's own word for "slow down"
    501: Unsupported,
    507: OutOfCapacity,
}


def status_class(status: int) -> type[StorageError]:
    """Return the class of errors that an HTTP status stands for."""
    return _STATUS.get(status, Unavailable if status >= 500 else Internal)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the server asked us to wait; its other form, a date, nobody sends."""
    text = headers.get("retry-after", "")
    return float(text) if text.isdecimal() else None


def server_time(headers: Mapping[str, str]) -> datetime:
    """Return the server's clock: ages of its objects must not be told by ours."""
    try:
        return parsedate_to_datetime(headers["date"])
    except (KeyError, ValueError):  # a server without a clock sends no Date (RFC 9110)
        return datetime.now(UTC)


def quiet(*loggers: str) -> None:
    """Keep HTTP clients from logging requests, with tokens and names, whatever level the application has.

    Who wants them sets a level on those loggers; that is respected.
    """
    for name in loggers:
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.ERROR)
