"""Large bodies go through the proxy without being held."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flask import Flask, Response, request

from bollard.simulators.faults import Fault, FaultProxy
from bollard.simulators.http_server import HttpServer

GIB = 1 << 30
PIECE = bytes(1 << 20)


@contextmanager
def backend() -> Iterator[str]:
    """A server that counts what it gets, and gives a stream of zeroes."""

    def taken() -> str:
        return str(sum(len(piece) for piece in iter(lambda: request.stream.read(1 << 20), b"")))

    app = Flask("large")
    app.route("/put", endpoint="put", methods=["PUT"])(taken)
    zeroes = lambda length: Response((PIECE for _ in range(length >> 20)), headers={"Content-Length": length})  # noqa: E731 - one use
    app.route("/get/<int:length>", endpoint="get")(zeroes)
    server = HttpServer(app)
    server.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.stop()


def put(port: int, length: int) -> int:
    """Bytes that the backend says it got."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    client.request("PUT", "/put", (PIECE for _ in range(length >> 20)), {"Content-Length": str(length)})
    got = int(client.getresponse().read())
    client.close()
    return got


def peak_memory(pid: int) -> int:
    """Bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024


@pytest.mark.slow
@pytest.mark.parametrize("plan", [[], [{"kind": "lose_request", "nth": 9}]], ids=["streamed", "kept"])
def test_a_gibibyte_in_bounded_memory(tmp_path, plan):
    """A PUT of 1 GiB adds less than 64 MiB to the proxy, even when it is kept until it is whole."""
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    with backend() as upstream:
        command = [sys.executable, "-m", "bollard.simulators.faults", "--upstream", upstream]
        options = ["--state", tmp_path / "state", "--plan", tmp_path / "plan.json"]
        with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout
            ready = json.loads(child.stdout.readline())
            before = peak_memory(child.pid)
            assert put(int(ready["url"].rpartition(":")[2]), GIB) == GIB
            grown = peak_memory(child.pid) - before
            child.send_signal(signal.SIGTERM)
            said = json.loads(child.stdout.readline())
    assert [one["status"] for one in said["exchanges"]] == [200]
    assert grown < 64 << 20


def test_a_kept_body_is_on_disk_and_removed(tmp_path):
    """What is kept for a fault leaves nothing behind."""
    with backend() as upstream, FaultProxy.http(upstream=upstream, state=tmp_path) as proxy:
        proxy.plan([Fault.duplicate()])
        assert put(proxy.port, 8 << 20) == 8 << 20
        proxy.finish()
    assert list(tmp_path.iterdir()) == []


def test_streams_both_ways_at_once(tmp_path):
    """Uploads and downloads on many connections do not wait for each other."""
    with backend() as upstream, FaultProxy.http(upstream=upstream, state=tmp_path) as proxy:

        def get() -> None:
            client = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=120)
            client.request("GET", f"/get/{8 << 20}")
            results.append(len(client.getresponse().read()))
            client.close()

        results: list[int] = []
        threads = [threading.Thread(target=get) for _ in range(4)]
        threads += [
            threading.Thread(target=lambda: results.append(put(proxy.port, 8 << 20))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == [8 << 20] * 8
