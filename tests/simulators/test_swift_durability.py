"""What the simulated Swift acknowledged survives; what it did not is nowhere."""

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from swiftclient import Connection

from bollard.simulators.process import SimulatorFailed, SimulatorProcess
from bollard.simulators.swift import SwiftSimulator

KEY = "testing-key"

# One client per module: each httpx.get() would load the CA certificates anew (50 ms); nothing stays open.
HTTP = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0))

USERS = {"BOLLARD_SWIFT_USERS": '{"test:tester": "testing-key"}'}


def start(state: Path, *arguments: str) -> SimulatorProcess:
    """A simulator child over ``state``."""
    return SimulatorProcess.start("swift", "--state", str(state), *arguments, env=USERS)


def sign_in(url: str) -> tuple[str, dict[str, str]]:
    """The account's URL and the headers that carry the token."""
    reply = HTTP.get(f"{url}/auth/v1.0", headers={"X-Auth-User": "test:tester", "X-Auth-Key": KEY})
    return reply.headers["X-Storage-Url"], {"X-Auth-Token": reply.headers["X-Auth-Token"]}


def half_an_upload(account: str, token: dict[str, str], name: str, *, chunked: bool = False) -> socket.socket:
    """Begins a PUT, sends part of its body and returns the open connection."""
    parts = urlsplit(account)
    connection = socket.create_connection((parts.hostname, parts.port))
    size = "Transfer-Encoding: chunked" if chunked else "Content-Length: 1000000"
    secret = f"X-Auth-Token: {token['X-Auth-Token']}"
    head = f"PUT {parts.path}/box/{name} HTTP/1.1\r\nHost: x\r\n{secret}\r\n{size}\r\n\r\n"
    connection.sendall(head.encode() + (b"61a80\r\n" if chunked else b"") + b"x" * 400_000)
    return connection


def wait_for(condition, what: str) -> None:
    """Polls until the condition holds, at most ten seconds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, what
        threading.Event().wait(0.01)


def test_kill_9_keeps_every_acknowledged_object(tmp_path):
    """After SIGKILL during a stream of PUTs the restarted server has each object it had answered 201 for."""
    acknowledged = []
    swift = start(tmp_path)
    account, token = sign_in(swift.url)
    HTTP.put(f"{account}/box", headers=token)
    killer = threading.Thread(target=swift.kill)
    with httpx.Client(headers=token) as http:
        for number in range(100_000):
            if number == 50:
                killer.start()
            try:
                reply = http.put(f"{account}/box/o{number}", content=b"%d" % number * 1000)
            except httpx.TransportError:
                break
            assert reply.status_code == 201
            acknowledged.append(number)
    killer.join()
    assert acknowledged
    with start(tmp_path) as again:
        account = again.url + urlsplit(account).path
        with httpx.Client(headers=token) as http:
            for number in acknowledged:
                assert http.get(f"{account}/box/o{number}").content == b"%d" % number * 1000
            listed = http.get(f"{account}/box").text.split()
    assert {f"o{number}" for number in acknowledged} <= set(listed)
    assert list((tmp_path / "incoming").iterdir()) == []
    assert len(list((tmp_path / "blobs").iterdir())) == len(listed)


@pytest.mark.parametrize("chunked", [False, True])
def test_aborted_upload_leaves_nothing(tmp_path, chunked):
    """A client that goes away in the middle of its body leaves no object and no file."""
    with SwiftSimulator(tmp_path, users={"test:tester": KEY}) as swift:
        account, token = sign_in(swift.url)
        HTTP.put(f"{account}/box", headers=token)
        incoming = tmp_path / "incoming"
        with half_an_upload(account, token, "o", chunked=chunked):
            wait_for(lambda: list(incoming.iterdir()), "the upload did not begin")
            assert HTTP.head(f"{account}/box/o", headers=token).status_code == 404
        wait_for(lambda: not list(incoming.iterdir()), "the aborted upload left its file")
        assert HTTP.head(f"{account}/box/o", headers=token).status_code == 404
        assert HTTP.get(f"{account}/box", headers=token).text == ""
        assert list((tmp_path / "blobs").iterdir()) == []


def test_old_object_is_readable_until_the_new_one_is_complete(tmp_path):
    """An overwrite under way shows the old bytes, also when it is aborted."""
    with SwiftSimulator(tmp_path, users={"test:tester": KEY}) as swift:
        account, token = sign_in(swift.url)
        HTTP.put(f"{account}/box", headers=token)
        HTTP.put(f"{account}/box/o", headers=token, content=b"old")
        incoming = tmp_path / "incoming"
        with half_an_upload(account, token, "o"):
            wait_for(lambda: list(incoming.iterdir()), "the upload did not begin")
            assert HTTP.get(f"{account}/box/o", headers=token).content == b"old"
        wait_for(lambda: not list(incoming.iterdir()), "the aborted upload left its file")
        assert HTTP.get(f"{account}/box/o", headers=token).content == b"old"


def test_kill_9_during_an_upload_is_swept_on_start(tmp_path):
    """The half-written file of a killed server is removed by the next one."""
    swift = start(tmp_path)
    account, token = sign_in(swift.url)
    HTTP.put(f"{account}/box", headers=token)
    with half_an_upload(account, token, "o"):
        wait_for(lambda: list((tmp_path / "incoming").iterdir()), "the upload did not begin")
        swift.kill()
    assert list((tmp_path / "incoming").iterdir())
    with start(tmp_path):
        assert list((tmp_path / "incoming").iterdir()) == []


def test_memory_stays_flat_for_large_objects(tmp_path):
    """Putting and getting 100 MiB raises the server's peak memory by less than 30 MiB."""
    with start(tmp_path) as swift:
        account, token = sign_in(swift.url)
        HTTP.put(f"{account}/box", headers=token)
        HTTP.put(f"{account}/box/small", headers=token, content=b"x")
        before = peak_memory_kib(swift.pid)
        piece = b"x" * 1024 * 1024
        headers = {**token, "Content-Length": str(100 * len(piece))}
        reply = HTTP.put(f"{account}/box/o", headers=headers, content=(piece for _ in range(100)), timeout=60)
        assert reply.status_code == 201
        with HTTP.stream("GET", f"{account}/box/o", headers=token) as reply:
            assert sum(map(len, reply.iter_raw())) == 100 * len(piece)
        assert peak_memory_kib(swift.pid) - before < 30 * 1024


def peak_memory_kib(pid: int) -> int:
    """VmHWM of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def test_sigterm_stops_cleanly_with_open_connections(tmp_path):
    """SIGTERM ends the server with exit code 0, even while clients hold connections and uploads open."""
    swift = start(tmp_path)
    account, token = sign_in(swift.url)
    HTTP.put(f"{account}/box", headers=token)
    with httpx.Client() as idle, half_an_upload(account, token, "o"):
        idle.get(f"{swift.url}/info")
        assert swift.stop() == 0
    assert not Path(f"/proc/{swift.pid}").exists()


def test_one_server_per_state_directory(tmp_path):
    """A second server over the same directory refuses to start and says why."""
    with start(tmp_path), pytest.raises(SimulatorFailed, match="another simulator serves"):
        start(tmp_path)


def test_generated_key_is_private_and_stays(tmp_path):
    """Without given users a key is made once, readable by its owner only, and not in the ready line."""
    environment = {key: value for key, value in os.environ.items() if key != "BOLLARD_SWIFT_USERS"}
    child = [sys.executable, "-m", "bollard.simulators.swift", "--state", str(tmp_path)]
    seen = []
    for _ in range(2):
        with subprocess.Popen(child, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            line = process.stdout.readline()
            process.terminate()
        text = (tmp_path / "users.json").read_text()
        seen.append(text)
        assert text.split('"')[3] not in line
    assert (tmp_path / "users.json").stat().st_mode & 0o777 == 0o600
    assert seen[0] == seen[1]


def test_restart_in_one_process(tmp_path):
    """A stopped simulator object can be started again and still has its objects."""
    swift = SwiftSimulator(tmp_path, users={"test:tester": KEY})
    for _ in range(2):
        with swift:
            connection = Connection(swift.auth_url, "test:tester", KEY, retries=0)
            connection.put_container("box")
            connection.put_object("box", "o", b"data")
            connection.close()
    with swift:
        account, token = sign_in(swift.url)
        assert HTTP.get(f"{account}/box/o", headers=token).content == b"data"


def test_silent_child_is_reported(tmp_path):
    """A simulator that cannot start is an error that quotes what it said."""
    with pytest.raises(SimulatorFailed, match="no defect"):
        start(tmp_path, "--defect", "nonsense")
