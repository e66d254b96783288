"""What an error number of a file system means in the taxonomy."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from ...core.spi import (
    Busy,
    Conflict,
    Internal,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    Outcome,
    OutOfCapacity,
    PermissionDenied,
    StorageError,
    Unavailable,
    Unsupported,
)

_CLASSES: dict[int, type[StorageError]] = {
    errno.ENOENT: NotFound,
    errno.EEXIST: Conflict,
    errno.ENOSPC: OutOfCapacity,
    errno.EDQUOT: OutOfCapacity,
    errno.EFBIG: LimitExceeded,
    errno.EMLINK: LimitExceeded,
    errno.EROFS: PermissionDenied,
    errno.EACCES: PermissionDenied,
    errno.EPERM: PermissionDenied,
    errno.EBUSY: Busy,
    errno.EAGAIN: Busy,
    errno.EMFILE: Busy,
    errno.ENFILE: Busy,
    errno.ENOMEM: Busy,
    errno.ENOTSUP: Unsupported,
    # A part of the key is a file or a symbolic link where a directory must be, or the other way round.
    errno.ENOTDIR: InvalidArgument,
    errno.EISDIR: InvalidArgument,
    errno.ELOOP: InvalidArgument,
    errno.ENAMETOOLONG: InvalidArgument,
    # A server that went away (soft mounts), came back with other file handles, or lost its disk.
    errno.ESTALE: Unavailable,
    errno.EIO: Unavailable,
    errno.ETIMEDOUT: Unavailable,
    errno.ENOTCONN: Unavailable,
    errno.ECONNREFUSED: Unavailable,
    errno.ECONNRESET: Unavailable,
    errno.ENETUNREACH: Unavailable,
    errno.EHOSTDOWN: Unavailable,
    errno.EHOSTUNREACH: Unavailable,
    errno.EREMOTEIO: Unavailable,
}


def from_errno(error: OSError, what: str, outcome: Outcome | None = None) -> StorageError:
    """Return the typed error for `error`; `what` names the object, never a path of the server."""
    cls = _CLASSES.get(error.errno or 0, Internal)
    reason = error.strerror or type(error).__name__
    return cls(f"{what}: {reason}", outcome=outcome, detail=f"errno {error.errno}: {error}")


@contextmanager
def translated(what: str, outcome: Outcome | None = None) -> Iterator[None]:
    """Turn an `OSError` from the block into the taxonomy.

    Args:
        what: what the message begins with.
        outcome: what is known of the backend; None for the default of the error's class.
    """
    try:
        yield
    except OSError as error:
        raise from_errno(error, what, outcome) from error
