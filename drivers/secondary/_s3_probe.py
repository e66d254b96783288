"""What an S3 server checks and honours: found out, because version numbers don't tell.

radosgw before Squid and MinIO of some years take any x-amz-checksum-sha256, older ones and Swift's s3api of
some releases any If-None-Match. The probe's objects have reserved names, so no listing shows them.
"""

from __future__ import annotations

import base64
import hashlib
from contextlib import suppress
from typing import Any, NamedTuple

from ...core.spi import (
    Call,
    Conflict,
    DataLoss,
    InvalidArgument,
    LimitExceeded,
    OutOfCapacity,
    PermissionDenied,
    StorageError,
    Unsupported,
)
from ._probe import HiddenNames, Overtaken
from ._s3_client import S3Client

_WHAT = "the probe of the store"
_OTHER = base64.b64encode(hashlib.sha256(b"other bytes than are sent").digest()).decode()


class Found(NamedTuple):
    """The answers: the store compares SHA-256; it honours If-None-Match."""

    sha256_checked: bool
    conditional_put: bool


def probe(client: S3Client, base: str, call: Call, checksum: str, conditional_put: str) -> Found:
    """Return what the options say, and ask the store where they say `probe`.

    Credentials that may only read, and a full store, give (False, False): it is good for restoring.
    """
    names = HiddenNames(base)
    try:
        sha256, condition = checksum == "sha256", conditional_put == "yes"
        if checksum == "probe":
            sha256 = _refuses(client, names.new(), call, {"ChecksumSHA256": _OTHER})
        if conditional_put == "probe":
            condition = _one_wins(client, names, call)
    except (PermissionDenied, LimitExceeded, OutOfCapacity):
        return Found(sha256_checked=False, conditional_put=False)
    finally:
        for name in names.given:
            with suppress(StorageError):
                client.send("delete_object", _WHAT, call, Key=name)
    return Found(sha256_checked=sha256, conditional_put=condition)


def _one_wins(client: S3Client, names: HiddenNames, call: Call) -> bool:
    """Tell whether of two puts that overlap only one can win; see `Overtaken`.

    Swift's s3api looks at the beginning (2.38: eight racing puts, eight times 200).
    """

    def race() -> dict[str, Any]:
        # A retry that found what the first attempt put would take that for a condition that was honoured.
        name = names.new()
        other = Overtaken(lambda: client.send("put_object", _WHAT, call, Key=name, Body=b"done first"))
        return client.once(
            "put_object", _WHAT, call, Key=name, Body=other, ContentLength=len(other), IfNoneMatch="*"
        )

    try:
        client.repeat(race, call)
    except Conflict:
        return True
    except (InvalidArgument, Unsupported):
        return False
    return False


def _refuses(client: S3Client, name: str, call: Call, header: dict[str, str]) -> bool:
    """Put with a header that must be refused; a server that stumbles over it doesn't support it."""
    try:
        client.send("put_object", _WHAT, call, Key=name, Body=b"probe", **header)
    except (Conflict, DataLoss):
        return True
    except InvalidArgument:
        return "ChecksumSHA256" in header  # 400 InvalidRequest is AWS's other word for a wrong checksum
    except Unsupported:
        return False
    return False
