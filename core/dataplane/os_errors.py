"""What the kernel said, in the words of the taxonomy.

    ENOENT                        NotFound           EACCES EPERM EROFS   PermissionDenied
    ENOSPC EDQUOT                 OutOfCapacity      EFBIG                LimitExceeded
    EBUSY ETXTBSY                 InUse              ELOOP EISDIR ...     InvalidArgument
    EAGAIN (somebody's lock)      Busy
    EIO EUCLEAN EBADMSG           DataLoss           anything else        Unavailable

EIO is `DataLoss`, not `Unavailable`: after a failed fsync the kernel has dropped the dirty pages and
a second fsync succeeds (the PostgreSQL "fsyncgate"), so a silent retry would turn it into loss.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from ..spi.errors import (
    Busy,
    DataLoss,
    InUse,
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
    errno.EACCES: PermissionDenied,
    errno.EPERM: PermissionDenied,
    errno.EROFS: PermissionDenied,
    errno.ENOSPC: OutOfCapacity,
    errno.EDQUOT: OutOfCapacity,
    errno.EFBIG: LimitExceeded,
    errno.ENAMETOOLONG: LimitExceeded,
    errno.EMFILE: LimitExceeded,
    errno.EAGAIN: Busy,
    errno.EBUSY: InUse,
    errno.ETXTBSY: InUse,
    errno.ELOOP: InvalidArgument,
    errno.EISDIR: InvalidArgument,
    errno.ENOTDIR: InvalidArgument,
    errno.EINVAL: InvalidArgument,
    errno.EOVERFLOW: InvalidArgument,
    errno.ENXIO: InvalidArgument,
    errno.EOPNOTSUPP: Unsupported,
    errno.EIO: DataLoss,
    errno.EUCLEAN: DataLoss,
    errno.EBADMSG: DataLoss,
}


def error_of(number: int, message: str, *, outcome: Outcome) -> StorageError:
    """Return the error for an errno; `message` says what was tried, with what."""
    known = _CLASSES.get(number, Unavailable)
    return known(f"{message}: {errno.errorcode.get(number, number)}", outcome=outcome)


@contextmanager
def os_errors(message: str, *, outcome: Outcome = Outcome.NOT_APPLIED) -> Iterator[None]:
    """Turn an `OSError` inside the block into an error of the taxonomy.

    Args:
        message: what was tried ("cannot read /pool/a.raw").
        outcome: what the caller may assume when it failed; UNKNOWN for writes.
    """
    try:
        yield
    except OSError as error:
        raise error_of(error.errno or 0, message, outcome=outcome) from error
