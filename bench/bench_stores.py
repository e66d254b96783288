"""S3 clients side by side: ours, boto3 as it comes, and obstore; up and down, large and small.

    python bench/bench_stores.py [null|swift] [ROUNDS]

`null` is a server that discards what it gets and sends zeros, so the client is what is measured; `swift` is
real Swift's s3api. Rounds alternate between the clients; a ratio is of medians, to boto3 as it comes.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import obstore
from botocore.config import Config
from obstore.store import S3Store

from bollard.core.spi import Body, Call, parse_options
from bollard.drivers.secondary.s3 import S3Driver

sys.path.append(str(Path(__file__).parents[1] / "tests" / "lib"))

MIB = 1024 * 1024
LARGE, SMALL = os.urandom(64 * MIB), os.urandom(4096)
JOBS = {"large": (LARGE, 4), "small": (SMALL, 200)}  # bytes, objects
THREADS = 4
USER, SECRET = "test:tester", "correct-horse-battery"


class Null(BaseHTTPRequestHandler):
    """Takes each PUT, and answers each GET of a key with as many zeros as JOBS has bytes for it."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        """Discard."""
        left, buffer = int(self.headers.get("Content-Length", 0)), memoryview(bytearray(MIB))
        while left and (done := self.rfile.readinto(buffer[: min(left, MIB)])):  # type: ignore[attr-defined]  # typeshed: BufferedIOBase
            left -= done
        self._answer(0)

    def do_HEAD(self) -> None:
        """All is there."""
        self._answer(0)

    def do_GET(self) -> None:
        """Send zeros."""
        size = next((len(data) for name, (data, _) in JOBS.items() if name in self.path), 0)
        self._answer(size)
        for start in range(0, size, MIB):
            self.wfile.write(bytes(min(MIB, size - start)))

    def _answer(self, size: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.send_header("ETag", '"0"')
        self.send_header("Last-Modified", "Sun, 22 Nov 2026 01:00:00 GMT")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def null() -> Iterator[str]:
    """Run the null server in a process of its own; yields its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Null)
    process = multiprocessing.get_context("fork").Process(target=server.serve_forever)
    process.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        process.kill()
        process.join()
        server.server_close()


@contextmanager
def swift() -> Iterator[str]:
    """Run real Swift with a bucket; yields the URL of its s3api."""
    from real_swift import RealSwift

    with tempfile.TemporaryDirectory() as home, RealSwift(Path(home)) as server:
        plain(server.s3_url).create_bucket(Bucket="archive")
        yield server.s3_url


def plain(url: str) -> Any:
    """Return boto3's client as it comes, with enough connections."""
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=USER,
        aws_secret_access_key=SECRET,
        config=Config(max_pool_connections=THREADS, s3={"addressing_style": "path"}),
    )


Put = Callable[[str, bytes], object]
Get = Callable[[str], int]


def of_boto3(url: str) -> tuple[Put, Get]:
    """As it comes: payloads are signed, checksums computed."""
    client = plain(url)
    return (
        lambda key, data: client.put_object(Bucket="archive", Key=key, Body=data),
        lambda key: sum(map(len, client.get_object(Bucket="archive", Key=key)["Body"].iter_chunks(MIB))),
    )


def of_driver(url: str) -> tuple[Put, Get]:
    """Our driver: digests known, compared by the store; payloads not signed."""
    options = {"endpoint_url": url, "bucket": "archive", "access_key": USER, "secret_key": SECRET}
    known = {"checksum": "sha256", "conditional_put": "no", "listing_consistent": "no"}
    driver = S3Driver(parse_options(S3Driver.Options, options | known))
    driver.open(Call.within(60))
    bodies = {data: Body.of(data) for data, _ in JOBS.values()}  # the archive knows its digests
    return (
        lambda key, data: driver.put(key, bodies[data], Call.within(300)),
        lambda key: sum(map(len, driver.get(key, Call.within(300)))),
    )


def of_obstore(url: str) -> tuple[Put, Get]:
    """The library obstore, without signed payloads and without any digest: the least it can do."""
    store = S3Store(
        "archive",
        endpoint=url,
        access_key_id=USER,
        secret_access_key=SECRET,
        region="us-east-1",
        unsigned_payload=True,
        client_options={"allow_http": True, "timeout": "300s"},
        retry_config={"max_retries": 0},
    )
    return (
        lambda key, data: obstore.put(store, key, io.BytesIO(data), use_multipart=False),
        lambda key: sum(map(len, obstore.get(store, key).stream(MIB))),
    )


CLIENTS = {"boto3": of_boto3, "driver": of_driver, "obstore": of_obstore}


def measure(url: str, rounds: int) -> None:
    """Print rate and ratio of each client in each job."""
    clients = {name: make(url) for name, make in CLIENTS.items()}
    for job, (data, count) in JOBS.items():
        taken: dict[tuple[str, str], list[float]] = {}
        for _ in range(rounds):
            for name, (put, get) in clients.items():
                keys = [f"{job}-{name}-{number}" for number in range(count)]
                taken.setdefault(("up", name), []).append(_seconds(partial(_put, put, data), keys))
                taken.setdefault(("down", name), []).append(_seconds(get, keys))
        for way in ("up", "down"):
            base = statistics.median(taken[way, "boto3"])
            for name in clients:
                seconds = statistics.median(taken[way, name])
                rate = count * len(data) / MIB / seconds
                print(
                    f"{job:5} {way:4} {name:8} {rate:8.1f} MiB/s {count / seconds:8.1f}/s"
                    f"  ratio {base / seconds:5.2f}",
                    flush=True,
                )


def _put(put: Put, data: bytes, key: str) -> None:
    put(key, data)


def _seconds(act: Callable[[str], object], keys: list[str]) -> float:
    began = time.monotonic()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(act, keys))
    return time.monotonic() - began


if __name__ == "__main__":
    given = sys.argv[1:]
    with (swift if "swift" in given else null)() as where:
        measure(where, int(next((text for text in given if text.isdecimal()), "3")))
