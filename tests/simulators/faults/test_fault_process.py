"""The fault proxy as a process: plan from a file, account at the end."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from bollard.simulators.faults import Fault, FaultKind
from bollard.simulators.faults.__main__ import main
from bollard.simulators.process import SimulatorProcess

MODULE = [sys.executable, "-m", "bollard.simulators.faults"]


class Child:
    """A running proxy."""

    def __init__(self, upstream: str, path: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [*MODULE, "--upstream", upstream, "--state", path / "state", *options],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        self.out = self.process.stdout
        self.ready = json.loads(self.out.readline())

    def status(self) -> int:
        """Of one request through it."""
        client = http.client.HTTPConnection(
            "127.0.0.1", int(self.ready["url"].rpartition(":")[2]), timeout=20
        )
        client.request("GET", "/json")
        answer = client.getresponse()
        answer.read()  # a body that nobody takes may never be garbled before the end (1 of 3 runs in CI)
        client.close()
        return answer.status

    def end(self) -> tuple[int, dict]:
        """Exit status and last line."""
        self.process.send_signal(signal.SIGTERM)
        said = json.loads(self.out.readline())
        assert self.out.read() == ""
        return self.process.wait(20), said


@pytest.fixture
def child(backend, tmp_path) -> Iterator[Child]:
    """With a plan of two faults."""
    plan = tmp_path / "plan.json"
    plan.write_text('[{"kind": "status", "code": 429, "retry_after": 1}, {"kind": "garble", "nth": 2}]')
    running = Child(backend.url, tmp_path, "--plan", str(plan))
    yield running
    running.process.kill()
    running.process.wait()
    running.out.close()


def test_all_hit(child):
    """Exit status 0, and the account of all exchanges."""
    assert [child.status(), child.status()] == [429, 200]
    code, said = child.end()
    assert code == 0
    assert said["not_hit"] == []
    assert said["exchanges"][0] == {
        "number": 1,
        "method": "GET",
        "path": "/json",
        "status": 429,
        "fault": "status",
    }


def test_not_all_hit(child):
    """Exit status 1, and the name of what did not happen."""
    assert child.status() == 429
    code, said = child.end()
    assert code == 1
    assert [one.partition("(")[0] for one in said["not_hit"]] == ["garble"]


def test_runs_as_the_other_simulators_do(tmp_path):
    """SimulatorProcess starts and stops it; with TLS the ready line names the authority."""
    options = ["--upstream", "https://127.0.0.1:1", "--state", str(tmp_path)]
    with SimulatorProcess.start("faults", *options) as process:
        assert Path(process.ready["ca"]).read_text().startswith("-----BEGIN CERTIFICATE")
        assert process.stop() == 0


def test_tcp_and_ssh_by_scheme(sshd_key, tmp_path, backend):
    """The upstream's scheme says which proxy it is."""
    tcp = Child(backend.url.replace("http", "tcp"), tmp_path)
    tcp.ready["url"] = tcp.ready["url"].replace("tcp", "http")
    assert tcp.status() == 200
    assert tcp.end()[1]["exchanges"][0]["method"] == "connect"
    tcp.out.close()
    ssh = Child("ssh://me@127.0.0.1:1", tmp_path, "--key", str(sshd_key), "--host-key", "ssh-ed25519 AAAA")
    assert ssh.ready["url"].startswith("ssh://me@127.0.0.1:")
    assert ssh.ready["known_hosts_line"].startswith("[127.0.0.1]:")
    assert ssh.end() == (0, {"exchanges": [], "not_hit": []})
    ssh.out.close()


@pytest.fixture
def sshd_key(tmp_path) -> Path:
    """A private key."""
    path = tmp_path / "key"
    paramiko.ECDSAKey.generate().write_private_key_file(str(path))
    return path


@pytest.mark.parametrize(
    ("upstream", "plan", "reason"),
    [
        ("http://127.0.0.1:1", '[{"kind": "nonsense"}]', "not a valid FaultKind"),
        ("http://127.0.0.1:1", '[{"kind": "reset", "nht": 1}]', "no 'nht'"),
        ("http://127.0.0.1:1", '[{"kind": "reset", "nth": "1"}]', "nth must be int"),
        ("http://127.0.0.1:1", '{"kind": "reset"}', "no list"),
        ("http://127.0.0.1:1/path", "[]", "upstream must be"),
        ("tcp://127.0.0.1:1", '[{"kind": "duplicate"}]', "no messages"),
        ("tcp://127.0.0.1", "[]", "host and a port"),
        ("ssh://127.0.0.1:1", "[]", "--host-key"),
    ],
)
def test_wrong_words_are_explained(tmp_path, capsys, upstream, plan, reason):
    """A plan or an upstream that makes no sense ends it before it serves, and says why."""
    path = tmp_path / "plan.json"
    path.write_text(plan)
    with pytest.raises(SystemExit) as caught:
        main(["--upstream", upstream, "--state", str(tmp_path), "--plan", str(path)])
    assert caught.value.code == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize("kind", FaultKind)
def test_every_kind_has_a_constructor(kind):
    """A plan can be written in Python with a method of the fault's name."""
    needed = {"delay": {"seconds": 1}, "drip": {"bytes_per_second": 1}, "redirect": {"to": "http://a"}}
    fault = getattr(Fault, kind)(2, **needed.get(kind, {}))
    assert (fault.kind, fault.nth) == (kind, 2)
