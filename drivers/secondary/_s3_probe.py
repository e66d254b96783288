"""What an S3 server checks and honours: found out, because version numbers don't tell.

radosgw before Squid and MinIO of some years take any x-amz-checksum-sha256, older ones and Swift's s3api of
some releases any If-None-Match. The probe's object has a reserved name, so no listing shows it.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Callable
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
            stored, condition = True, _one_wins(client, name, call)
    except (PermissionDenied, LimitExceeded, OutOfCapacity):
        return Found(sha256_checked=False, conditional_put=False)
    finally:
        if stored:
            with suppress(StorageError):
                client.send("delete_object", _WHAT, call, Key=name)
    return Found(sha256_checked=sha256, conditional_put=condition)


def _one_wins(client: S3Client, name: str, call: Call) -> bool:
    """Tell whether of two puts that overlap only one can win.

        conditional   headers, half ·····················  rest    412: the store looks when it commits
        plain                       ···· whole, done ····          200: it looked at the beginning, or never

    Swift's s3api looks at the beginning (2.38: eight racing puts, eight times 200).
    """

    def other() -> None:
        client.send("put_object", _WHAT, call, Key=name, Body=b"the probe that is done first")

    body = _Overtaken(other)
    try:
        client.once("put_object", _WHAT, call, Key=name, Body=body, ContentLength=len(body), IfNoneMatch="*")
    except Conflict:
        return True
    except (InvalidArgument, Unsupported):
        return False
    return False


class _Overtaken:
    """A body in whose middle something else is done."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act
        self._halves = [b"half of ", b"the probe"]
        self._size = sum(map(len, self._halves))

    def __len__(self) -> int:
        return self._size

    def read(self, _size: int = -1) -> bytes:
        """Return the next half; before the second one, act."""
        if len(self._halves) == 1:
            self._act()
        return self._halves.pop(0) if self._halves else b""


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
