"""The simulator as a process: ready line, TLS, secrets, clean stop, kill -9, speed."""

from __future__ import annotations

import json
import logging
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bollard.simulators.array import ArraySimulator, export_name
from bollard.simulators.process import SimulatorProcess

CHUNK = 65536
PASSWORD = "canary-password-7261"
IQN = "iqn.2024-01.org.example:host-1"
SECRET = "canary-secret-9182"

Start = Callable[..., SimulatorProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the simulator as a child; whatever still runs after the test is stopped."""
    children: list[SimulatorProcess] = []

    def begin(*arguments: str, **env: str) -> SimulatorProcess:
        state = ("--state", str(tmp_path / "state"), "--job-seconds", "0", *arguments)
        child = SimulatorProcess.start("array", *state, env={"BOLLARD_ARRAY_PASSWORD": PASSWORD, **env})
        children.append(child)
        return child

    yield begin
    for child in children:
        child.stop()


class Remote:
    """What the REST helper wants to know of a simulator in another process."""

    def __init__(self, child: SimulatorProcess) -> None:
        self.url, self.ca = child.url, child.ready["ca"]
        self.nbd_port = child.ready["nbd_port"]
        self.admin_user, self.admin_password = child.ready["username"], PASSWORD


def test_the_ready_line_tells_where_and_hides_the_password(start: Start, connect: Any) -> None:
    """One JSON line; HTTPS with a generated authority; the password is in no argument and no output."""
    child = start("--pool", "gold=1G", "--pool", "silver=512M")
    assert child.ready["url"].startswith("https://127.0.0.1:")
    assert child.ready["pools"] == ["gold", "silver"]
    assert child.ready["pid"] == child.pid
    assert PASSWORD not in json.dumps(dict(child.ready))
    assert PASSWORD.encode() not in Path(f"/proc/{child.pid}/cmdline").read_bytes()
    api = connect(Remote(child))
    assert api.call("GET", "/pools/silver")["total_bytes"] == 512 * 2**20
    other = ssl.create_default_context()
    with (
        httpx.Client(verify=other) as stranger,
        pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY"),
    ):
        stranger.get(child.url)
    assert child.stop() == 0


def test_kill_nine_loses_nothing_that_was_flushed(start: Start, connect: Any) -> None:
    """Flushed data, snapshots and grants are there after the restart; unflushed slots are free again."""
    child = start("--insecure-http")
    api = connect(Remote(child))
    volume = api.volume("v1", 64)
    api.grant(volume)
    with api.attach(volume) as host:
        host.write(0, b"a" * 8 * CHUNK)
        host.flush()
        snapshot = api.snapshot(volume)
        host.write(0, b"b" * CHUNK, fua=True)
        host.write(32 * CHUNK, b"c" * 16 * CHUNK)
        child.kill()
    child = start("--insecure-http")
    api = connect(Remote(child))
    assert api.call("GET", "/pools/pool-a")["used_bytes"] == 9 * CHUNK
    with api.attach(volume) as host:
        assert host.read(0, 64 * CHUNK) == b"b" * CHUNK + b"a" * 7 * CHUNK + bytes(56 * CHUNK)
        host.close()
    clone = api.clone(f"/snapshots/{snapshot['id']}", "c1")
    assert api.get(clone, 0, 8 * CHUNK) == b"a" * 8 * CHUNK
    assert api.call("GET", f"/volumes/{volume['id']}")["snapshots"] == 1
    assert child.stop() == 0


def test_switches_of_the_command_line_reach_the_array(start: Start, connect: Any, nbd_error: Any) -> None:
    """Defects, limits and TLS on the data path are set from the start."""
    child = start("--defect", "clone_empty", "--nbd-tls", "--session-limit", "2", "--insecure-http")
    assert child.ready["ca"].endswith("ca.pem")
    api = connect(Remote(child))
    shown = httpx.get(f"{child.url}/sim/defects", auth=("admin", PASSWORD)).json()
    assert shown["active"] == ["clone_empty"]
    volume = api.volume("v1")
    assert api.grant(volume)["connection"]["tls"] is True
    with pytest.raises(nbd_error, match=str(0x80000005)):
        api.attach(volume)
    connect(Remote(child))
    login = {"username": "admin", "password": PASSWORD}
    assert api.error("POST", "/sessions", login, status=503) == "session_limit"


def test_a_wrong_command_line_ends_with_a_word_about_it(tmp_path: Path) -> None:
    """Unknown defects and malformed pools are refused before anything starts."""
    for arguments in (["--defect", "no_such"], ["--pool", "gold"], ["--password", "x"]):
        command = [sys.executable, "-m", "bollard.simulators.array", "--state", str(tmp_path / "s")]
        done = subprocess.run(
            [*command, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 2
        assert arguments[0] in done.stderr
        assert done.stdout == ""


def test_secrets_are_in_no_log_and_no_answer(tmp_path: Path, connect: Any, caplog: Any, capfd: Any) -> None:
    """With everything logged: neither password, CHAP secret, token nor proof; files are private."""
    with caplog.at_level(logging.DEBUG), ArraySimulator(tmp_path / "a", password=PASSWORD) as sim:
        api = connect(sim)
        token = api.http.headers["Authorization"].removeprefix("Bearer ")
        host = {"iqn": IQN, "chap_user": "u", "chap_secret": SECRET}
        initiator = api.call("POST", "/initiators", host, status=201)
        volume = api.volume("v1")
        body = {"initiator": initiator["id"]}
        api.call("POST", f"/volumes/{volume['id']}/grants", body, status=201)
        with api.attach(volume, secret=SECRET) as session:
            shown = str(api.call("GET", "/data-sessions")) + str(api.call("GET", "/initiators"))
            session.close()
        wrong = {"username": "admin", "password": PASSWORD + "x"}
        shown += str(api.call("POST", "/sessions", wrong, status=401)) + repr(sim)
    proof = export_name(volume["serial"], IQN, SECRET).rpartition(":")[2]
    printed = capfd.readouterr()
    # httpcore logs the headers that it sends, as the client does in this process
    ours = [
        record.getMessage() for record in caplog.records if record.name.startswith(("bollard", "werkzeug"))
    ]
    assert ours
    for text in (shown, printed.out, printed.err, *ours):
        for secret in (PASSWORD, SECRET, token, proof):
            assert secret not in text
    assert (tmp_path / "a").stat().st_mode & 0o077 == 0
    assert (tmp_path / "a" / "tls" / "server.key").stat().st_mode & 0o077 == 0


def test_a_silent_tls_client_blocks_nobody(tmp_path: Path, connect: Any) -> None:
    """A connection that never begins its handshake neither stops other calls nor the stop."""
    with ArraySimulator(tmp_path / "a") as sim:
        port = int(sim.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)):
            assert connect(sim).call("GET", "/system")["api_version"] == "1.0"
            sim.stop()


@pytest.mark.real
@pytest.mark.slow
def test_a_gibibyte_goes_through_in_flat_memory(start: Start, connect: Any, tmp_path: Path) -> None:
    """Written and read by nbdcopy, and cut, without the simulator taking more than 200 MiB."""
    child = start("--insecure-http")
    api = connect(Remote(child))
    volume = api.call("POST", "/volumes", {"name": "v1", "pool": "pool-a", "size": 2**30}, status=201)
    api.grant(volume)
    name = export_name(volume["serial"], IQN, "correct-horse-battery")
    uri = f"nbd://127.0.0.1:{api.sim.nbd_port}/{name}"
    image = tmp_path / "image"
    block = os.urandom(2**22)
    with image.open("wb") as file:
        for _ in range(256):
            file.write(block)
    for source, target in ((str(image), uri), (uri, "null:")):
        subprocess.run(["nbdcopy", "--flush", source, target], check=True, timeout=120)
    api.snapshot(volume)
    peak = Path(f"/proc/{child.pid}/status").read_text().partition("VmHWM:")[2].split()[0]
    assert int(peak) < 200 * 1024, f"{peak} KiB"
