"""What S3's error codes and botocore's exceptions mean in the taxonomy.

Messages carry the code only: servers put access keys and signed strings into their texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ...core.spi import (
    Busy,
    Call,
    Conflict,
    DataLoss,
    Internal,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    Outcome,
    OutOfCapacity,
    PermissionDenied,
    StorageError,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from ._http import retry_after, status_class

if TYPE_CHECKING:
    from botocore.exceptions import BotoCoreError, ClientError

_CODES: Mapping[str, type[StorageError]] = {
    "NoSuchBucket": NotFound,
    "NoSuchKey": NotFound,
    "NoSuchUpload": NotFound,
    "AccessDenied": PermissionDenied,
    "AllAccessDisabled": PermissionDenied,
    "InvalidAccessKeyId": Unauthenticated,
    "SignatureDoesNotMatch": Unauthenticated,
    "ExpiredToken": Unauthenticated,
    "InvalidToken": Unauthenticated,
    "RequestTimeTooSkewed": Unauthenticated,
    "SlowDown": Busy,
    "Throttling": Busy,
    "ThrottlingException": Busy,
    "TooManyRequests": Busy,
    "RequestLimitExceeded": Busy,
    "OperationAborted": Busy,
    "ConditionalRequestConflict": Busy,
    "RequestTimeout": Unavailable,
    "ServiceUnavailable": Unavailable,
    "InternalError": Unavailable,
    "PreconditionFailed": Conflict,
    "EntityTooLarge": LimitExceeded,
    "KeyTooLongError": LimitExceeded,
    "QuotaExceeded": LimitExceeded,
    "XMinioAdminBucketQuotaExceeded": LimitExceeded,
    "XMinioStorageFull": OutOfCapacity,
    "InsufficientCapacity": OutOfCapacity,
    "BadDigest": DataLoss,
    "XAmzContentSHA256Mismatch": DataLoss,
    "XAmzContentChecksumMismatch": DataLoss,
    "InvalidPart": DataLoss,
    "InvalidRange": InvalidArgument,
    "NotImplemented": Unsupported,
    # The bucket lives in another region than the option says.
    "PermanentRedirect": InvalidArgument,
    "AuthorizationHeaderMalformed": InvalidArgument,
    "301": InvalidArgument,
}


def from_answer(error: ClientError, what: str) -> StorageError:
    """Return the typed error for an error that the store answered with."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    meta = error.response.get("ResponseMetadata", {})
    cls = _CODES.get(code) or status_class(int(meta.get("HTTPStatusCode", 0)))
    return cls(
        f"{what}: the store answered {code or 'nothing sensible'}",
        detail=f"HTTP {meta.get('HTTPStatusCode')}, request {meta.get('RequestId', '?')}",
        retry_after=retry_after(meta.get("HTTPHeaders", {})),
    )


def broken(error: Exception, what: str, call: Call) -> StorageError:
    """Return the typed error for a connection that broke in the middle."""
    call.check(Outcome.UNKNOWN)  # a timeout that the deadline set is told as the deadline's
    return Unavailable(f"{what}: the connection broke ({type(error).__name__})")


def from_client(error: BotoCoreError, what: str, call: Call) -> StorageError:
    """Return the typed error for a request that got no answer."""
    from botocore import exceptions as boto

    kind = type(error).__name__
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError | boto.SSLError):
        return Unauthenticated(
            f"{what}: {kind}", detail="no credentials, or the server's certificate is not trusted"
        )
    if isinstance(error, boto.EndpointConnectionError | boto.ConnectTimeoutError):
        return Unavailable(f"{what}: the store cannot be reached ({kind})", outcome=Outcome.NOT_APPLIED)
    if isinstance(error, boto.HTTPClientError | boto.IncompleteReadError | boto.ResponseStreamingError):
        return broken(error, what, call)
    if isinstance(error, boto.ProfileNotFound | boto.ConfigParseError | boto.NoRegionError):
        return InvalidArgument(f"{what}: the AWS configuration of this machine is not usable ({kind})")
    return Internal(f"{what}: {kind}")
