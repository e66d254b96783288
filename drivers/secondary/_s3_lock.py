"""Object lock: what is put cannot be deleted or replaced before a date, not even by whoever has the keys.

    put      x-amz-object-lock-mode, x-amz-object-lock-retain-until-date      now + lock_days
    delete   the version that counts is locked: refused, with the date
             else all versions of the key go, or their space would never be free

A bucket with object lock keeps versions: a plain DELETE there only hides an object behind a marker, and
"succeeds" on a locked one. So versions are deleted by name. Intents of running backups (begin.json) are
renewed and removed by design and hold no data; they are not locked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ...core.spi import Call, InUse, NotFound, Unsupported
from ._s3_client import S3Client

_PASSING = "/begin.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectLock:
    """How long objects are locked, in days; `mode` is S3's: governance or compliance."""

    days: int
    mode: str

    def check_bucket(self, client: S3Client, bucket: str, call: Call) -> None:
        """Make sure that the bucket has object lock.

        Raises:
            Unsupported: it has none, or the server knows no such thing.
        """
        what = f"the object lock of the bucket {bucket!r}"
        try:
            found = client.send("get_object_lock_configuration", what, call)
        except (NotFound, Unsupported) as error:
            raise Unsupported(_none(bucket), detail=error.message) from error
        if found.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") != "Enabled":
            raise Unsupported(_none(bucket))

    def parameters(self, key: str) -> Mapping[str, Any]:
        """Return what a put of this key is sent with."""
        if key.endswith(_PASSING):
            return {}
        until = datetime.now(UTC) + timedelta(days=self.days)
        return {"ObjectLockMode": self.mode.upper(), "ObjectLockRetainUntilDate": until}

    def ensure(self, client: S3Client, name: str, key: str, call: Call) -> None:
        """Lock an object that was sent in parts, where the server forgot it (moto 5 does).

        Raises:
            StorageError: it is not locked.
        """
        wanted = self.parameters(key)
        if not wanted or client.send("head_object", key, call, Key=name).get("ObjectLockRetainUntilDate"):
            return
        mode, until = wanted["ObjectLockMode"], wanted["ObjectLockRetainUntilDate"]
        retention = {"Mode": mode, "RetainUntilDate": until}
        client.send("put_object_retention", key, call, Key=name, Retention=retention)


def _none(bucket: str) -> str:
    return f"the bucket {bucket!r} has no object lock (it is given at its making): leave lock_days at 0"


def delete_versions(client: S3Client, name: str, key: str, call: Call) -> None:
    """Delete an object of a bucket with object lock, with all its versions.

    Raises:
        InUse: it is locked; the message has the date. Nothing was deleted.
    """
    with suppress(NotFound):  # older versions may be there, behind a marker
        _refuse_if_locked(client.send("head_object", key, call, Key=name), key)
    for version in list(_versions(client, name, key, call)):
        call.check()
        client.send("delete_object", key, call, Key=name, VersionId=version)


def _refuse_if_locked(found: Mapping[str, Any], key: str) -> None:
    until = found.get("ObjectLockRetainUntilDate")
    if found.get("ObjectLockLegalHoldStatus") == "ON":
        raise InUse(f"{key!r} has a legal hold")
    if until is not None and until > datetime.now(UTC):
        raise InUse(f"{key!r} is locked until {until.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}")


def _versions(client: S3Client, name: str, key: str, call: Call) -> Iterator[str]:
    marker: dict[str, str] = {}
    while True:
        page = client.send("list_object_versions", f"the versions of {key!r}", call, Prefix=name, **marker)
        for item in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
            if item["Key"] == name:
                yield item["VersionId"]
        if not page.get("IsTruncated"):
            return
        marker = {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}
