"""What an S3 server checks and honours: found out, because version numbers don't tell.

radosgw before Squid and MinIO of some years take any x-amz-checksum-sha256, older ones and Swift's s3api of
some releases any If-None-Match. The probe's object has a reserved name, so no listing shows it.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from contextlib import suppress
from typing import NamedTuple

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
    name = f"{base}.bollard-probe-{secrets.token_hex(8)}"
    stored = False
    try:
        sha256, condition = checksum == "sha256", conditional_put == "yes"
        if checksum == "probe":
            stored, sha256 = True, _refuses(client, name, call, {"ChecksumSHA256": _OTHER})
        if conditional_put == "probe":
            client.send("put_object", _WHAT, call, Key=name, Body=b"probe")
            stored, condition = True, _refuses(client, name, call, {"IfNoneMatch": "*"})
    except (PermissionDenied, LimitExceeded, OutOfCapacity):
        return Found(sha256_checked=False, conditional_put=False)
    finally:
        if stored:
            with suppress(StorageError):
                client.send("delete_object", _WHAT, call, Key=name)
    return Found(sha256_checked=sha256, conditional_put=condition)


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
