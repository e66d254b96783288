"""Guests of the simulated cluster write real blocks, stop while frozen, and survive their server."""

import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bollard.simulators.hypervisor import BLOCK, HypervisorSimulator, examine
from bollard.simulators.process import SimulatorProcess

# Without it each client loads the CA certificates, which takes 100 ms.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

SIZE = 1024 * 1024
NOW = [0.0]


@pytest.fixture
def cluster(tmp_path) -> Iterator[HypervisorSimulator]:
    """A running KVM cluster whose clock the test moves."""
    NOW[0] = 1_800_000_000.0
    with HypervisorSimulator(tmp_path / "state", clock=lambda: NOW[0]) as simulator:
        yield simulator


@pytest.fixture
def disks(tmp_path) -> dict[str, Path]:
    """Two raw files."""
    return make_disks(tmp_path)


def make_disks(directory: Path) -> dict[str, Path]:
    """Raw files "root" and "data"."""
    paths = {name: directory / f"{name}.raw" for name in ("root", "data")}
    for path in paths.values():
        with path.open("wb") as file:
            file.truncate(SIZE)
    return paths


@pytest.fixture
def http(cluster, disks) -> Iterator[httpx.Client]:
    """A client of the cluster with the running VM "vm1" that has both disks."""
    with httpx.Client(verify=NO_TLS, base_url=cluster.url, timeout=10) as client:
        boot(client, disks)
        yield client


def boot(client: httpx.Client, disks: dict[str, Path], **options: object) -> None:
    """Defines host and VM and starts it."""
    client.put("/hosts/h1", json={"initiator": "iqn.2026-01.org.example:h1"}).raise_for_status()
    attached = {name: {"address": {"path": str(path)}, "slots": 8} for name, path in disks.items()}
    client.put("/vms/vm1", json={"host": "h1", "disks": attached, **options}).raise_for_status()
    client.post("/vms/vm1/start").raise_for_status()


def generation(client: httpx.Client) -> int:
    """The newest block that the guest wrote."""
    return client.get("/vms/vm1/freeze").raise_for_status().json()["generation"]


def wait_for(condition, what: str) -> None:
    """Polls until the condition holds, at most ten seconds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, what
        threading.Event().wait(0.01)


def test_guest_writes_its_region_only(http, disks):
    """Blocks go to the end of each disk in turn; the rest of the disk stays as it was."""
    assert http.post("/vms/vm1/write", json={"blocks": 21}).json()["generation"] == 21
    cut = examine(disks)
    assert (cut.generation, cut.problems) == (21, ())
    for path in disks.values():
        assert path.read_bytes()[: SIZE - 8 * BLOCK] == bytes(SIZE - 8 * BLOCK)
        assert path.stat().st_size == SIZE


def test_freeze_stops_writes_and_thaw_restarts_them(cluster, http, disks):
    """Writes go on by themselves, not one lands while frozen, and they continue after the thaw."""
    http.post("/vms/vm1/rate", json={"blocks_per_s": 500}).raise_for_status()
    wait_for(lambda: generation(http) > 5, "the guest does not write")
    frozen = http.post("/vms/vm1/freeze", json={"timeout_s": 60}).json()
    assert frozen["frozen"] is True
    before = {name: path.read_bytes() for name, path in disks.items()}
    threading.Event().wait(0.05)  # 25 writes at this rate, were it not frozen
    assert generation(http) == frozen["generation"] == examine(disks).generation
    assert {name: path.read_bytes() for name, path in disks.items()} == before
    assert http.post("/vms/vm1/write", json={"blocks": 1}).status_code == 423
    assert http.post("/vms/vm1/thaw").json()["frozen"] is False
    wait_for(lambda: generation(http) > frozen["generation"], "the guest does not go on")


def test_freeze_thaws_by_itself(http):
    """A freeze ends when its time is over, whoever forgot the thaw; a repeat does not extend it."""
    http.post("/vms/vm1/freeze", json={"timeout_s": 30})
    NOW[0] += 20
    assert http.post("/vms/vm1/freeze", json={"timeout_s": 30}).json()["thaws_at"] == 1_800_000_030.0
    assert http.get("/vms/vm1").json()["frozen"] is True
    NOW[0] += 11
    assert http.get("/vms/vm1/freeze").json()["frozen"] is False
    assert http.post("/vms/vm1/write", json={"blocks": 1}).json()["generation"] == 1


def test_thaw_twice_and_endless_freeze(http):
    """Thaw of a thawed guest is fine; a freeze without bound is refused."""
    for _ in range(2):
        assert http.post("/vms/vm1/thaw").status_code == 200
    assert http.post("/vms/vm1/freeze", json={"timeout_s": 10_000}).status_code == 400


def test_freeze_needs_a_running_guest_with_agent(cluster, http, tmp_path):
    """Stopped VM and missing agent are told apart."""
    http.put("/vms/dumb", json={"host": "h1", "agent": False}).raise_for_status()
    assert http.post("/vms/dumb/freeze").json()["error"] == "not_running"
    http.post("/vms/dumb/start")
    assert http.post("/vms/dumb/freeze").json()["error"] == "agent_missing"
    assert http.post("/vms/nobody/freeze").status_code == 404


def test_xenserver_cannot_freeze(tmp_path, disks):
    """The family without quiesce says so."""
    xen = HypervisorSimulator(tmp_path / "xen", personality="XenServer")
    with xen, httpx.Client(verify=NO_TLS, base_url=xen.url) as client:
        boot(client, disks)
        assert client.post("/vms/vm1/freeze").json()["error"] == "unsupported"


def test_hot_plug(http, disks, tmp_path):
    """Disks come and go while the VM runs; a detached file is no longer open; a disk has one VM."""
    extra = tmp_path / "extra.raw"
    extra.write_bytes(bytes(SIZE))
    body = {"address": {"path": str(extra)}, "slots": 8}
    http.post("/vms/vm1/write", json={"blocks": 5})
    assert http.put("/vms/vm1/disks/extra", json=body).raise_for_status().json()["device"] == "vdc"
    assert http.post("/vms/vm1/write", json={"blocks": 30}).json()["generation"] == 35
    assert examine({**disks, "extra": extra}).problems == ()
    http.put("/vms/vm2", json={"host": "h1"}).raise_for_status()
    assert http.put("/vms/vm2/disks/extra", json=body).json()["error"] == "in_use"
    for _ in range(2):
        assert http.delete("/vms/vm1/disks/extra").status_code == 204
    opened = {link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}
    assert extra not in opened
    http.post("/vms/vm1/write", json={"blocks": 20})
    assert examine(disks).problems == ()
    assert http.put("/vms/vm2/disks/extra", json=body).status_code == 200


def test_qcow2_is_not_written_to(http, tmp_path):
    """A guest's raw blocks would destroy a qcow2; such a disk is attached but left alone."""
    path = tmp_path / "disk.qcow2"
    path.write_bytes(b"QFI\xfb" + bytes(20) + SIZE.to_bytes(8, "big") + bytes(1000))
    before = path.read_bytes()
    disk = {"address": {"path": str(path), "format": "qcow2"}}
    http.put("/vms/vm2", json={"host": "h1", "disks": {"root": disk}}).raise_for_status()
    http.post("/vms/vm2/start").raise_for_status()
    assert http.post("/vms/vm2/write").json()["error"] == "no_disk"
    assert path.read_bytes() == before


def test_kill_9_keeps_vms_running_frozen_and_counting(tmp_path):
    """After SIGKILL of the server its VMs go on: the frozen one stays frozen, no generation is used twice."""
    disks = make_disks(tmp_path)
    state = str(tmp_path / "state")
    server = SimulatorProcess.start("hypervisor", "--state", state, "--personality", "KVM")
    with httpx.Client(verify=NO_TLS, base_url=server.url) as client:
        boot(client, disks)
        client.post("/vms/vm1/write", json={"blocks": 37}).raise_for_status()
        client.post("/vms/vm1/freeze", json={"timeout_s": 100}).raise_for_status()
    server.kill()
    again = SimulatorProcess.start("hypervisor", "--state", state)
    with again, httpx.Client(verify=NO_TLS, base_url=again.url) as client:
        found = client.get("/vms/vm1/freeze").json()
        assert (found["frozen"], found["generation"]) == (True, 37)
        client.post("/vms/vm1/thaw")
        assert client.post("/vms/vm1/write", json={"blocks": 3}).json()["generation"] == 40
        assert client.get("/hosts").json()[0]["id"] == "h1"
    cut = examine(disks)
    assert (cut.generation, cut.problems) == (40, ())


def test_kill_9_while_writing_leaves_a_consistent_history(tmp_path):
    """Whatever moment the server is killed at, the disks show one instant."""
    disks = make_disks(tmp_path)
    server = SimulatorProcess.start("hypervisor", "--state", str(tmp_path / "state"))
    with httpx.Client(verify=NO_TLS, base_url=server.url) as client:
        boot(client, disks)
        client.post("/vms/vm1/rate", json={"blocks_per_s": 2000})
        wait_for(lambda: generation(client) > 50, "the guest does not write")
    server.kill()
    cut = examine(disks)
    assert cut.generation > 50
    assert cut.problems == ()


class TestDefects:
    """The switches around guests."""

    def test_freeze_that_does_nothing(self, cluster, http):
        """The answer says frozen, the guest writes."""
        cluster.defects.update({"freeze_says_ok_does_nothing": True})
        assert http.post("/vms/vm1/freeze").json()["frozen"] is True
        assert http.post("/vms/vm1/write").status_code == 200

    def test_thaw_that_is_ignored(self, cluster, http):
        """The answer says thawed, the guest stays frozen until its time is over."""
        cluster.defects.update({"thaw_ignored": True})
        http.post("/vms/vm1/freeze", json={"timeout_s": 30})
        assert http.post("/vms/vm1/thaw").json()["frozen"] is False
        assert http.post("/vms/vm1/write").status_code == 423
        assert http.get("/vms/vm1/freeze").json()["frozen"] is True
        NOW[0] += 31
        assert http.post("/vms/vm1/write").status_code == 200

    def test_agent_that_answers_too_late(self, cluster, http):
        """The freeze is 504 although the guest is frozen."""
        cluster.defects.update({"agent_timeout": 1})
        assert http.post("/vms/vm1/freeze").status_code == 504
        assert http.get("/vms/vm1/freeze").json()["frozen"] is True
