"""`bollard archive serve` as a process: where it says it serves, how it ends, what it leaves."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.real

MIB = 2**20


@pytest.fixture
def monday(bollard, vol_1) -> None:
    """vol-1 is in the archive as monday: 64 MiB with 64 KiB of 0x5a at 1 MiB."""
    assert bollard("archive", "create", "vol-1", "monday").code == 0


@contextmanager
def serving(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """The process and what it printed when it was ready; killed at the end unless it has ended."""
    command = [sys.executable, "-m", "bollard", "archive", "serve", "vol-1", "monday", "--json"]
    with subprocess.Popen([*command, *map(str, arguments)], stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            yield child, json.loads("".join(iter(child.stdout.readline, "}\n")) + "}")
        finally:
            child.kill()


def qemu_io(uri: str, *commands: str) -> str:
    """Run commands of qemu-io on an export, which it opens for writing only if one of them writes."""
    words = [word for command in commands for word in ("-c", command)]
    mode = () if any("write" in command for command in commands) else ("-r",)
    done = subprocess.run(
        ["qemu-io", *mode, "-f", "raw", *words, uri], capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout + done.stderr


def test_serves_until_sigterm(home, monday):
    """It says where it serves, the image is there, and SIGTERM ends it with code 0 and without a trace."""
    path = home / "nbd.sock"
    with serving("--socket", path) as (child, ready):
        assert ready == {
            "uri": f"nbd+unix:///?socket={path}", "size": 64 * MIB, "writable": False, "pid": child.pid
        }  # fmt: skip
        said = qemu_io(ready["uri"], "read -P 0x5a 1M 64k", "read -P 0 2M 1M")
        assert "65536/65536" in said
        assert "verification failed" not in said
        assert "Permission denied" in qemu_io(ready["uri"], "write 0 4k")
        child.send_signal(signal.SIGTERM)
        assert child.wait(60) == 0
    assert not path.exists()


def test_what_is_written_survives_the_server(home, monday):
    """With --cow a second server of the same file has what the first was told, over TCP as well."""
    file = home / "over.qcow2"
    with serving("--socket", home / "nbd.sock", "--cow", file) as (child, ready):
        assert (ready["writable"], ready["cow"]) == (True, str(file))
        qemu_io(ready["uri"], "write -P 7 1M 4k", "flush")
        child.send_signal(signal.SIGTERM)
        assert child.wait(60) == 0
    before = {path: path.read_bytes() for path in (home / "store").rglob("*") if path.is_file()}
    with serving("--port", 0, "--cow", file) as (_, ready):
        assert ready["uri"].startswith("nbd://127.0.0.1:")
        said = qemu_io(ready["uri"], "read -P 7 1M 4k", "read -P 0x5a 1028k 4k", "write 0 4k")
        assert "verification failed" not in said
        assert said.count("4096/4096") == 3
    assert before == {path: path.read_bytes() for path in (home / "store").rglob("*") if path.is_file()}


def test_kill_9_leaves_no_daemon(home, monday):
    """The storage daemon below --cow dies with the command, however that dies."""
    path = home / "nbd.sock"
    with (
        serving("--socket", path, "--cow", home / "over.qcow2") as (child, _),
        socket.socket(socket.AF_UNIX) as connection,
    ):
        connection.settimeout(60)
        connection.connect(str(path))
        assert connection.recv(8) == b"NBDMAGIC"
        os.kill(child.pid, signal.SIGKILL)
        while connection.recv(4096):
            pass  # the rest of its greeting; then the end, which its death makes


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("vol-1", "tuesday", "--port", "0"), 4),
        (("vol-1", "monday", "--port", "0", "--socket", "a"), 2),
        (("vol-1", "monday", "--port", "0", "--cow", "no/such/directory"), 4),
        (("vol-1", "monday", "--port", "0", "--cow", "bollard.toml"), 2),
        (("vol-1", "monday", "--socket", "bollard.toml"), 2),
        (("vol-1", "monday", "--port", "0", "--cow", "none.qcow2", "--read-only"), 4),
    ],
)
def test_bad_requests_end_at_once(bollard, home, monday, arguments, code):
    """What cannot be served is refused with the code for it, and no file is made or harmed."""
    before = (home / "bollard.toml").read_text()
    assert bollard("archive", "serve", *arguments, "--json").code == code
    assert (home / "bollard.toml").read_text() == before
    assert not list(Path(home).glob("*.part"))
