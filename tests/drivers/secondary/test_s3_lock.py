"""Object lock: nothing goes before its date, everything goes after it, and retention says why it waits."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bollard.core.archive import Archive, CreateOptions, Policy, Timing
from bollard.core.dataplane.file import FileSource, open_nofollow
from bollard.core.spi import Body, Call, InUse, InvalidArgument, Unsupported, parse_options
from bollard.drivers.secondary import _s3_lock
from bollard.drivers.secondary.s3 import S3Driver

KEY = "correct-horse-battery"


class Later(datetime):
    """A clock that can be set."""

    ahead = timedelta(0)

    @classmethod
    def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]  # the base returns Self
        """The real time and what was added."""
        return datetime.now(tz) + cls.ahead


@dataclass(frozen=True)
class Buckets:
    """moto's, of this test alone: one with object lock, one without."""

    client: Any
    locked: str
    plain: str


@pytest.fixture
def buckets(s3: Any) -> Buckets:
    """New ones on the server of all tests: a process has one moto, and a second server would empty it."""
    made = Buckets(s3, *(f"{kind}-{uuid.uuid4().hex[:8]}" for kind in ("locked", "plain")))
    s3.create_bucket(Bucket=made.locked, ObjectLockEnabledForBucket=True)
    s3.create_bucket(Bucket=made.plain)
    return made


def driver(buckets: Buckets, bucket: str = "", **more: Any) -> S3Driver:
    """An open driver, of the bucket with the lock if not told otherwise."""
    url, bucket = buckets.client.meta.endpoint_url, bucket or buckets.locked
    account = {"endpoint_url": url, "bucket": bucket, "access_key": "a", "secret_key": KEY}
    opened = S3Driver(parse_options(S3Driver.Options, account | more))
    opened.open(Call())
    return opened


@pytest.fixture
def store(buckets: Buckets) -> Iterator[S3Driver]:
    """A store that locks for a week; large bodies go in parts."""
    opened = driver(buckets, lock_days=7, max_single_upload_size=1000)
    yield opened
    opened.close()


def versions(buckets: Buckets) -> list[str]:
    """Keys of all versions and markers, but those of probes."""
    page = buckets.client.list_object_versions(Bucket=buckets.locked)
    found = [item["Key"] for item in (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))]
    return sorted(key for key in found if ".bollard-probe" not in key)


@pytest.mark.parametrize("size", [10, 2000])
def test_a_locked_object_is_not_deleted(buckets: Buckets, store: S3Driver, size: int):
    """In one request or in parts: the refusal names the date, and the object is still there."""
    store.put("v1/a.zip", Body.of(bytes(size)), Call())
    with pytest.raises(InUse, match=f"locked until {datetime.now(UTC) + timedelta(days=7):%Y-%m-%d}T"):
        store.delete("v1/a.zip", Call())
    assert store.head("v1/a.zip", Call()).size == size
    assert buckets.client.head_object(Bucket=buckets.locked, Key="v1/a.zip")["ObjectLockMode"] == "GOVERNANCE"


def test_a_legal_hold_is_told(buckets: Buckets, store: S3Driver):
    """A hold has no date."""
    store.put("v1/a.zip", Body.of(b"1"), Call())
    buckets.client.put_object_legal_hold(Bucket=buckets.locked, Key="v1/a.zip", LegalHold={"Status": "ON"})
    with pytest.raises(InUse, match="legal hold"):
        store.delete("v1/a.zip", Call())


def test_intents_are_not_locked_and_leave_no_versions(buckets: Buckets, store: S3Driver):
    """A begin.json is renewed and removed as before; all versions of it go, and only of it."""
    for _ in range(3):
        store.put("v1/x/begin.json", Body.of(b"1"), Call())
    store.put("v1/x/begin.json2", Body.of(b"1"), Call())
    store.delete("v1/x/begin.json", Call())
    store.delete("v1/x/begin.json", Call())
    assert versions(buckets) == ["v1/x/begin.json2"]


def test_a_bucket_without_lock_is_refused(buckets: Buckets):
    """The option on a bucket that cannot do it is told at once; without the option the bucket is fine."""
    with pytest.raises(Unsupported, match="lock_days"):
        driver(buckets, buckets.plain, lock_days=1)
    driver(buckets, buckets.plain).close()
    with pytest.raises(InvalidArgument):
        driver(buckets, lock_days=-1)


def test_retention_waits_for_the_lock(buckets: Buckets, store: S3Driver, tmp_path: Any, monkeypatch: Any):
    """What is locked stays with the date as its reason, and a later run takes it and frees its space."""
    now = datetime.now(UTC).timestamp()
    archive = Archive(store, clock=lambda: now, timing=Timing(lease=100, grace=50))
    image = tmp_path / "image"
    for number in range(2):
        image.write_bytes(bytes([number + 1]) * 4096)
        created = datetime.now(UTC) - timedelta(days=30 - number)
        with FileSource(image, open_nofollow(image, writable=False)) as source:
            archive.create(
                source,
                Call(),
                volume="vol",
                snapshot=f"s{number}",
                options=CreateOptions(window_size=4096, granule=512, created=created),
            )
    done = archive.retain(Call(), volume="vol", policy=Policy(last=1))
    assert [v.keep for v in done.verdicts] == [True, True]
    assert "locked until" in done.verdicts[1].reasons[0]
    assert done.collected is None

    monkeypatch.setattr(_s3_lock, "datetime", Later)
    monkeypatch.setattr(Later, "ahead", timedelta(days=8))
    monkeypatch.setattr("moto.s3.models.utcnow", lambda: datetime.now(UTC).replace(tzinfo=None) + Later.ahead)
    now += 1000
    done = archive.retain(Call(), volume="vol", policy=Policy(last=1))
    assert [v.keep for v in done.verdicts] == [True, False]
    assert [key for key in versions(buckets) if "/s0/" in key] == []


def test_collect_leaves_locked_parts_for_later(store: S3Driver):
    """A killed run's parts that are locked are kept and counted, and stop nothing."""
    key = "v1/vol/s0/t1/" + "0" * 16 + "." + "a" * 32 + ".zip"
    store.put(key, Body.of(b"1"), Call())
    collected = Archive(store).collect(Call(), volume="vol")
    assert (collected.parts, collected.kept) == (0, 1)
    assert store.head(key, Call()).size == 1
