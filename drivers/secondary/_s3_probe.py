"""What an S3 server checks and honours: found out, because version numbers don't tell.

radosgw before Squid and MinIO of some years take any x-amz-checksum-sha256, older ones and Swift's s3api of
some releases any If-None-Match. The probe's objects have reserved names, so no listing shows them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from ...core.spi import (
    Call,
    Conflict,
    DataLoss,
    FoundTrait,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    OutOfCapacity,
    PermissionDenied,
    StorageError,
    Unsupported,
)
from ._probe import HiddenNames, Overtaken, listed, probed
from ._s3_client import S3Client

_WHAT = "the probe of the store"
_OTHER = b"other bytes than are sent"
_WRONG = {
    "sha256": {"ChecksumSHA256": base64.b64encode(hashlib.sha256(_OTHER).digest()).decode()},
    "md5": {"ContentMD5": base64.b64encode(hashlib.md5(_OTHER, usedforsecurity=False).digest()).decode()},
}

# Trait, operation, and where its answer says "Enabled". With versions, what is deleted goes on costing.
_SETTINGS = (
    ("versioning", "get_bucket_versioning", "Status"),
    ("object_lock", "get_object_lock_configuration", "ObjectLockConfiguration", "ObjectLockEnabled"),
)


class Found(NamedTuple):
    """The answers: the digest that the store compares ("sha256", "md5", ""); it honours If-None-Match."""

    checksum: str
    conditional_put: bool


def probe(client: S3Client, base: str, call: Call, checksum: str, conditional_put: str) -> Found:
    """Return what the options say, and ask the store where they say `probe`.

    Credentials that may only read, and a full store, give ("", False): it is good for restoring.
    """
    names = HiddenNames(base)
    try:
        if checksum == "probe":
            checksum = next(
                (name for name, header in _WRONG.items() if _refuses(client, names, call, header)), ""
            )
        condition = conditional_put == "yes" or (
            conditional_put == "probe" and _one_wins(client, names, call)
        )
    except (PermissionDenied, LimitExceeded, OutOfCapacity):
        return Found(checksum="", conditional_put=False)
    finally:
        _delete(client, names, call)
    return Found(checksum, condition)


def lists_late(bucket: Mapping[str, Any]) -> bool:
    """Tell by the answer to `head_bucket` whether it is Swift's s3api.

    Its listings are Swift's, and lag while a container server is down.
    """
    return "x-trans-id" in bucket["ResponseMetadata"]["HTTPHeaders"]


def tried_out(client: S3Client, base: str, call: Call) -> list[FoundTrait]:
    """Put and list hidden objects, and ask for the bucket's settings."""
    names = HiddenNames(base)

    def put(name: str) -> None:
        client.send("put_object", _WHAT, call, Key=name, Body=b"probe")

    def listing(prefix: str) -> list[str]:
        answer = client.send("list_objects_v2", _WHAT, call, Prefix=prefix)
        return [item["Key"] for item in answer.get("Contents", ())]

    try:
        found = listed(names, put, listing)
    except (PermissionDenied, LimitExceeded, OutOfCapacity) as error:
        found = [probed("writable", value=False, how=f"a hidden object was refused: {error.message}")]
    finally:
        _delete(client, names, call)
    return [*found, *(_setting(client, call, *setting) for setting in _SETTINGS)]


def _setting(client: S3Client, call: Call, name: str, operation: str, *path: str) -> FoundTrait:
    how, answer = f"{operation} was asked", None
    try:
        answer = client.send(operation, _WHAT, call)
        for step in path:
            answer = answer.get(step, {})
    except NotFound:  # the bucket is there, the setting never was made
        answer = {}
    except StorageError as error:
        return probed(name, None, f"{how}: {error.message}")
    return probed(name, answer == "Enabled", how)


def _delete(client: S3Client, names: HiddenNames, call: Call) -> None:
    for name in names.given:
        with suppress(StorageError):
            client.send("delete_object", _WHAT, call, Key=name)


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


def _refuses(client: S3Client, names: HiddenNames, call: Call, header: dict[str, str]) -> bool:
    """Put with a digest that must be refused; a server that stumbles over it doesn't support it."""
    try:
        client.send("put_object", _WHAT, call, Key=names.new(), Body=b"probe", **header)
    except (Conflict, DataLoss):
        return True
    except InvalidArgument:
        return "ChecksumSHA256" in header  # 400 InvalidRequest is AWS's other word for a wrong checksum
    except Unsupported:
        return False
    return False
