"""Multipart uploads that nobody finishes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from ...core.spi import Call, NotFound, Unfinished
from ._http import server_time
from ._s3_client import S3Client

_WHAT = "the unfinished uploads"


class _Unfinished(NamedTuple):
    """An upload, and how long ago it began, in seconds of the server's clock."""

    where: Mapping[str, str]
    began: datetime
    now: datetime


def abort_idle(client: S3Client, prefix: str, call: Call, older_than: float) -> int:
    """Abort uploads of names that begin with `prefix` and that got no part for `older_than` seconds.

    Returns how many. An upload of a terabyte takes hours; its age is that of its newest part.
    """
    removed = 0
    for upload, _ in _idle(client, prefix, call, older_than):
        client.send("abort_multipart_upload", _WHAT, call, **upload.where)
        removed += 1
    return removed


def list_idle(
    client: S3Client, base: str, prefix: str, call: Call, older_than: float
) -> Iterator[Unfinished]:
    """Yield what `abort_idle` would abort; keys are told without the store's `base`.

    The parts of an upload are told by a request each, so its size is left out.
    """
    for upload, idle in _idle(client, base + prefix, call, older_than):
        yield Unfinished(key=upload.where["Key"].removeprefix(base), idle=idle)


def _idle(
    client: S3Client, prefix: str, call: Call, older_than: float
) -> Iterator[tuple[_Unfinished, float]]:
    for upload in _unfinished(client, prefix, call):
        idle = _idle_seconds(client, upload, older_than, call)
        if idle >= older_than:
            yield upload, idle


def _unfinished(client: S3Client, prefix: str, call: Call) -> Iterator[_Unfinished]:
    markers: dict[str, str] = {}
    while True:
        page = client.send("list_multipart_uploads", _WHAT, call, Prefix=prefix, **markers)
        now = server_time(page["ResponseMetadata"]["HTTPHeaders"])
        for item in page.get("Uploads", ()):
            yield _Unfinished({"Key": item["Key"], "UploadId": item["UploadId"]}, item["Initiated"], now)
        if not page.get("IsTruncated"):
            return
        markers = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}


def _idle_seconds(client: S3Client, upload: _Unfinished, enough: float, call: Call) -> float:
    """Return the seconds since the upload moved; without asking for its parts if it only just began."""
    age = _seconds(upload.began, upload.now)
    if age < enough:
        return age
    newest = max(_part_times(client, upload, call), default=upload.began)
    return _seconds(newest, upload.now)


def _seconds(then: datetime, now: datetime) -> float:
    return max(0.0, (now - then).total_seconds())  # Date counts whole seconds


def _part_times(client: S3Client, upload: _Unfinished, call: Call) -> Iterator[datetime]:
    marker: dict[str, Any] = {}
    while True:
        try:
            page = client.send("list_parts", _WHAT, call, **upload.where, **marker)
        except NotFound:  # finished or aborted since it was listed; aborting it again does no harm
            return
        for part in page.get("Parts", ()):
            yield part["LastModified"]
        if not page.get("IsTruncated"):
            return
        marker = {"PartNumberMarker": page["NextPartNumberMarker"]}
