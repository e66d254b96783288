"""Each switch of the S3 simulator breaks what it says, and nothing when it is off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from inspect import getdoc
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from bollard.simulators.s3 import S3Simulator
from bollard.simulators.s3_defects import S3Defects

BUCKET = "archive"
Seen = Callable[[Any], bool]
CHECKS: dict[str, Seen] = {}


def sees(*switches: str) -> Callable[[Seen], Seen]:
    """Register a check: it answers whether the store shows one of the defects."""

    def register(check: Seen) -> Seen:
        CHECKS.update(dict.fromkeys(switches, check))
        return check

    return register


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[S3Simulator]:
    """A running store with one bucket."""
    with S3Simulator(tmp_path, buckets=[BUCKET]) as running:
        yield running


@pytest.fixture
def s3(simulator: S3Simulator) -> Iterator[Any]:
    """A client that tries once and sends checksums only where it must."""
    config = Config(
        retries={"total_max_attempts": 1},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"},
    )
    client = boto3.client(
        "s3",
        endpoint_url=simulator.url,
        region_name="us-east-1",
        config=config,
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )
    yield client
    client.close()


def put(s3: Any, key: str = "o", body: bytes = b"0123456789", **more: Any) -> None:
    """Store an object."""
    s3.put_object(Bucket=BUCKET, Key=key, Body=body, **more)


def read(s3: Any, key: str = "o", **more: Any) -> bytes:
    """Return an object, b"" if there is none."""
    try:
        data: bytes = s3.get_object(Bucket=BUCKET, Key=key, **more)["Body"].read()
    except s3.exceptions.NoSuchKey:
        return b""
    return data


def fails(act: Callable[[], object]) -> bool:
    """Whether a request is refused or lost."""
    try:
        act()
    except (ClientError, BotoCoreError):
        return True
    return False


def keys(s3: Any, **more: Any) -> list[str]:
    """Return the keys of one page."""
    return [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET, **more).get("Contents", ())]


@sees("unavailable")
def put_is_refused(s3: Any) -> bool:
    """Store an object."""
    return fails(lambda: put(s3))


@sees("lost_reply")
def put_is_lost_and_done(s3: Any) -> bool:
    """Store an object, and look."""
    return fails(lambda: put(s3)) and read(s3) == b"0123456789"


@sees("put_ignores_if_none_match")
def condition_is_ignored(s3: Any) -> bool:
    """Create twice."""
    put(s3)
    return not fails(lambda: put(s3, IfNoneMatch="*"))


@sees("put_corrupts", "put_loses_tail", "get_short_body", "get_flips_bit")
def bytes_differ(s3: Any) -> bool:
    """Store and read."""
    put(s3)
    return read(s3) != b"0123456789"


@sees("put_keeps_old")
def old_object_stays(s3: Any) -> bool:
    """Overwrite and read."""
    put(s3)
    put(s3, body=b"new")
    return read(s3) != b"new"


@sees("delete_says_ok_but_keeps")
def deleted_stays(s3: Any) -> bool:
    """Delete and read."""
    put(s3)
    s3.delete_object(Bucket=BUCKET, Key="o")
    return bool(read(s3))


@sees("delete_missing_is_error")
def missing_is_an_error(s3: Any) -> bool:
    """Delete what is not there."""
    return fails(lambda: s3.delete_object(Bucket=BUCKET, Key="nothing"))


@sees("range_ignored")
def range_is_the_whole(s3: Any) -> bool:
    """Read three bytes."""
    put(s3)
    return read(s3, Range="bytes=2-4") != b"234"


@sees("list_unsorted", "list_duplicates", "list_keys_encoded")
def page_is_wrong(s3: Any) -> bool:
    """List three keys."""
    for key in ("a/1", "b", "c"):
        put(s3, key)
    return keys(s3) != ["a/1", "b", "c"]


@sees("list_repeats_marker")
def marker_comes_again(s3: Any) -> bool:
    """List what comes after a key."""
    put(s3, "a")
    put(s3, "b")
    return keys(s3, StartAfter="a") != ["b"]


@sees("list_ends_early")
def first_page_is_the_last(s3: Any) -> bool:
    """List one of two."""
    put(s3, "a")
    put(s3, "b")
    return not s3.list_objects_v2(Bucket=BUCKET, MaxKeys=1)["IsTruncated"]


@sees("key_decoded_twice")
def percent_is_decoded(s3: Any) -> bool:
    """Store under a key with an escape, and read under what it stands for."""
    put(s3, "a%2Fb")
    return bool(read(s3, "a/b"))


@sees("plus_is_space")
def plus_is_a_space(s3: Any) -> bool:
    """Store with a plus, read with a space."""
    put(s3, "a+b")
    return bool(read(s3, "a b"))


def upload(s3: Any) -> str:
    """Begin an upload of two parts and return its id."""
    begun: str = s3.create_multipart_upload(Bucket=BUCKET, Key="big")["UploadId"]
    return begun


@sees("multipart_loses_part")
def part_is_missing(s3: Any) -> bool:
    """Upload two parts, read the object."""
    begun, parts = upload(s3), []
    for number, body in enumerate((b"a" * 5 * 2**20, b"b"), 1):
        etag = s3.upload_part(Bucket=BUCKET, Key="big", UploadId=begun, PartNumber=number, Body=body)["ETag"]
        parts.append({"PartNumber": number, "ETag": etag})
    s3.complete_multipart_upload(Bucket=BUCKET, Key="big", UploadId=begun, MultipartUpload={"Parts": parts})
    return not read(s3, "big").endswith(b"b")


@sees("abort_says_ok_but_keeps")
def aborted_is_listed(s3: Any) -> bool:
    """Abort, list."""
    s3.abort_multipart_upload(Bucket=BUCKET, Key="big", UploadId=upload(s3))
    return "Uploads" in s3.list_multipart_uploads(Bucket=BUCKET)


def test_every_switch_has_a_check() -> None:
    """A defect that nothing can see proves nothing."""
    assert CHECKS.keys() == S3Defects().as_dict().keys()


@pytest.mark.parametrize("switch", sorted(CHECKS))
def test_a_defect_shows(s3: Any, simulator: S3Simulator, switch: str) -> None:
    """With the defect the check sees it."""
    kind = type(S3Defects().as_dict()[switch])
    simulator.defects.update({switch: kind(1)})
    assert CHECKS[switch](s3)


@pytest.mark.parametrize("check", dict.fromkeys(CHECKS.values()), ids=lambda check: check.__name__)
def test_a_healthy_store_shows_none(s3: Any, check: Seen) -> None:
    """Without a defect the same check sees nothing."""
    assert not check(s3)


def test_switches_over_http(simulator: S3Simulator) -> None:
    """PUT /sim/defects changes switches, and answers with all, as the other simulators do."""
    with httpx.Client(base_url=simulator.url) as http:
        reply = http.put("/sim/defects", json={"unavailable": 1})
        assert reply.json() == simulator.defects.as_dict()
        assert http.put("/sim/defects", json={"nonsense": True}).status_code == 400
        assert http.get("/sim/defects").json()["unavailable"] == 1


def test_each_switch_is_told_with_its_field_bug() -> None:
    """The docstring says what a switch does and, in brackets, where that was seen."""
    text = getdoc(S3Defects) or ""
    for switch in S3Defects().as_dict():
        told = text.partition(f"    {switch}: ")[2].partition(": ")[0]
        assert "[" in told, switch
