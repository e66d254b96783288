"""Each switch of the hypervisor simulator that an orchestrator's day would hit does what it says."""

import os
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bollard.simulators.hypervisor import HypervisorSimulator

# Without it each client loads the CA certificates, which takes 100 ms.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

SIZE = 512 * 1024
OBJECT = "/hosts/h1/objects/volume/v1"
DISK = "/vms/vm1/disks/v1"
USE = {"object": {"kind": "volume", "id": "v1"}}


@pytest.fixture
def cluster(tmp_path) -> Iterator[HypervisorSimulator]:
    """A running cluster."""
    with HypervisorSimulator(tmp_path / "state") as simulator:
        yield simulator


@pytest.fixture
def http(cluster, lun) -> Iterator[httpx.Client]:
    """A client of the cluster, which has a host, an object, and the VM "vm1" whose disk it is."""
    with httpx.Client(verify=NO_TLS, base_url=cluster.url, timeout=20) as client:
        client.put("/hosts/h1", json={"initiator": "iqn.2026-01.org.example:h1"}).raise_for_status()
        client.put(OBJECT, json=introduction(lun)).raise_for_status()
        client.put("/vms/vm1", json={"host": "h1"}).raise_for_status()
        client.put(DISK, json=USE).raise_for_status()
        yield client


@pytest.fixture
def lun(tmp_path) -> Path:
    """A raw file."""
    path = tmp_path / "lun.raw"
    path.write_bytes(bytes(SIZE))
    return path


def introduction(path: Path, **changes: object) -> dict[str, object]:
    """What the host shall find."""
    return {"address": {"path": str(path)}, "identity": os.path.realpath(path), "size": SIZE, **changes}


def test_introduce_unverified(cluster, http, lun):
    """The host repeats identity and size that are not there."""
    cluster.defects.update({"introduce_unverified": True})
    shown = http.put("/hosts/h1/objects/volume/v2", json=introduction(lun, identity="x", size=7)).json()
    assert (shown["identity"], shown["size"]) == ("x", 7)


def test_introduce_again(cluster, http, lun, tmp_path):
    """One switch moves the object at each repeat, the other lets another object replace it."""
    first = http.get(OBJECT).json()
    cluster.defects.update({"introduce_again_moves": True})
    moved = http.put(OBJECT, json=introduction(lun)).raise_for_status().json()
    assert moved["place"] != first["place"]
    cluster.defects.update({"introduce_again_replaces": True})
    other = tmp_path / "other.raw"
    other.write_bytes(bytes(SIZE))
    assert http.put(OBJECT, json=introduction(other)).json()["identity"] == str(other)


def test_forget(cluster, http):
    """One switch forgets what a VM uses, the other cannot forget what is not there."""
    cluster.defects.update({"forget_in_use_allowed": True, "forget_missing_fails": True})
    assert [http.delete(OBJECT).status_code for _ in range(2)] == [204, 500]


def test_attach_and_detach(cluster, http):
    """A repeated attach gives another device; a repeated detach fails."""
    cluster.defects.update({"attach_again_moves": True, "detach_missing_fails": True})
    assert [http.put(DISK, json=USE).json()["device"] for _ in range(2)] == ["vdb", "vda"]
    assert [http.delete(DISK).status_code for _ in range(2)] == [204, 500]


def test_detach_returns_early(cluster, http, lun):
    """The guest goes on writing to the disk that the VM has no more, until it is powered off."""
    http.post("/vms/vm1/start").raise_for_status()
    cluster.defects.update({"detach_returns_early": True})
    http.delete(DISK).raise_for_status()
    assert http.get("/vms/vm1").json()["disks"] == {}
    http.post("/vms/vm1/write").raise_for_status()
    assert lun.read_bytes() != bytes(SIZE)


def test_freeze_without_end(cluster, http):
    """The time limit is not the one that was asked for."""
    http.post("/vms/vm1/start").raise_for_status()
    cluster.defects.update({"freeze_never_ends": True})
    assert http.post("/vms/vm1/freeze", json={"timeout_s": 5}).json()["thaws_at"] > time.time() + 1000


def test_thaw_and_state(cluster, http):
    """A guest that thawed by itself is said to be frozen, and cannot be thawed."""
    http.post("/vms/vm1/start").raise_for_status()
    cluster.defects.update({"guest_state_remembered": True, "thaw_unfrozen_fails": True})
    http.post("/vms/vm1/freeze", json={"timeout_s": 0.01}).raise_for_status()
    deadline = time.monotonic() + 10
    while http.get("/vms/vm1").json()["frozen"]:
        assert time.monotonic() < deadline, "the guest does not thaw by itself"
    assert http.get("/vms/vm1/freeze").json()["frozen"] is True
    assert http.post("/vms/vm1/thaw").status_code == 500


def test_snapshots(cluster, http, lun, tmp_path):
    """A repeat cuts anew, revert does nothing, delete takes the children and fails the second time."""
    switches = ("snapshot_retaken", "revert_does_nothing", "snapshot_delete_takes_children")
    cluster.defects.update(dict.fromkeys((*switches, "snapshot_delete_missing_fails"), True))
    http.put("/vms/vm1/snapshots/s1").raise_for_status()
    lun.write_bytes(b"x" * SIZE)
    http.put("/vms/vm1/snapshots/s1").raise_for_status()
    copy = tmp_path / "state" / "snapshots" / "vm1" / "s1" / "v1"
    assert copy.read_bytes() == b"x" * SIZE
    lun.write_bytes(b"y" * SIZE)
    http.post("/vms/vm1/snapshots/s1/revert").raise_for_status()
    assert lun.read_bytes() == b"y" * SIZE
    http.put("/vms/vm1/snapshots/s2").raise_for_status()
    assert [http.delete("/vms/vm1/snapshots/s1").status_code for _ in range(2)] == [204, 500]
    assert http.get("/vms/vm1/snapshots").json() == []


def test_snapshot_thaws(cluster, http):
    """After the snapshot the guest that somebody froze is thawed."""
    http.post("/vms/vm1/start").raise_for_status()
    http.post("/vms/vm1/freeze", json={"timeout_s": 100}).raise_for_status()
    cluster.defects.update({"snapshot_thaws": True})
    http.put("/vms/vm1/snapshots/s1").raise_for_status()
    assert http.get("/vms/vm1/freeze").json()["frozen"] is False
