"""moto's answers stay true when many ask at once."""

from __future__ import annotations

import hashlib
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from bollard.simulators.s3 import S3Simulator
from hypervisor_rig import NO_TLS

_PART = 20 * 2**20  # bytes
_ROUNDS = 15


@pytest.mark.timeout(120)
def test_a_part_has_its_own_digest_while_others_list(tmp_path: Path) -> None:
    """An uploaded part's ETag is the MD5 of what was sent, also while somebody lists the parts."""
    with (
        S3Simulator(tmp_path, buckets=["archive"]) as sim,
        httpx.Client(base_url=sim.url, verify=NO_TLS, timeout=30, headers=_SIGNED) as http,
        ThreadPoolExecutor(3) as pool,
    ):
        answer = http.post("/archive/key?uploads").text
        upload = {"uploadId": answer.partition("<UploadId>")[2].partition("</UploadId>")[0]}
        done, wrong = threading.Event(), 0

        def list_parts() -> None:
            while not done.is_set():
                assert http.get("/archive/key", params=upload).status_code == 200

        listers = [pool.submit(list_parts) for _ in range(3)]
        for number in range(_ROUNDS):
            body = bytes([number]) * _PART
            put = http.put("/archive/key", params={**upload, "partNumber": "1"}, content=body)
            digest = hashlib.md5(body, usedforsecurity=False).hexdigest()
            wrong += put.headers["etag"] != f'"{digest}"'
        done.set()
        for lister in listers:
            lister.result()
    assert wrong == 0


_SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request"}


def test_an_upload_is_as_old_as_it_is(tmp_path: Path) -> None:
    """A listing of uploads tells of each when it began, and not moto's year 2010."""
    with (
        S3Simulator(tmp_path, buckets=["archive"]) as sim,
        httpx.Client(base_url=sim.url, verify=NO_TLS, timeout=30, headers=_SIGNED) as http,
    ):
        before = datetime.now(UTC).replace(microsecond=0)
        for key in ("one", "two"):
            http.post(f"/archive/{key}?uploads")
        listed = re.findall("<Initiated>([^<]+)</Initiated>", http.get("/archive?uploads").text)
    times = [datetime.fromisoformat(one) for one in listed]
    assert len(times) == 2
    assert all(before <= time <= datetime.now(UTC) for time in times)
