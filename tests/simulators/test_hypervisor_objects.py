"""Introduce verifies, forget never deletes: hosts of the simulated cluster and the objects they know."""

import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bollard.simulators.hypervisor import HypervisorSimulator

# Without it each client loads the CA certificates, which takes 100 ms.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

SIZE = 1024 * 1024

every_family = pytest.mark.parametrize("family", ["KVM", "VMware", "XenServer", "Hyperv"], indirect=True)


@pytest.fixture
def family(request) -> str:
    """KVM where the family does not matter."""
    return getattr(request, "param", "KVM")


@pytest.fixture
def cluster(tmp_path, family) -> Iterator[HypervisorSimulator]:
    """A running cluster."""
    with HypervisorSimulator(tmp_path / "state", personality=family) as simulator:
        yield simulator


@pytest.fixture
def http(cluster) -> Iterator[httpx.Client]:
    """A client of the cluster, which has the host "h1"."""
    with httpx.Client(verify=NO_TLS, base_url=cluster.url) as client:
        client.put("/hosts/h1", json={"initiator": "iqn.2026-01.org.example:h1"})
        yield client


@pytest.fixture
def lun(tmp_path) -> Path:
    """A raw file with a serial and a content."""
    path = tmp_path / "lun.raw"
    path.write_bytes(b"precious" * (SIZE // 8))
    Path(f"{path}.serial").write_text("6001405abcdef\n")
    return path


def introduction(path: Path, **changes: object) -> dict[str, object]:
    """What the host shall find."""
    return {"address": {"path": str(path)}, "identity": "6001405abcdef", "size": SIZE, **changes}


@every_family
def test_introduce_use_forget(http, lun):
    """An introduced object has a place on the host; a forgotten one leaves nothing there but its data."""
    known = http.put("/hosts/h1/objects/volume/v1", json=introduction(lun)).raise_for_status().json()
    assert (known["identity"], known["size"]) == ("6001405abcdef", SIZE)
    assert http.get("/hosts/h1/objects/volume/v1").json() == known
    assert http.get("/hosts/h1/devices").json()[0]["path"] == known["place"]["path"]
    assert http.delete("/hosts/h1/objects/volume/v1").status_code == 204
    assert http.get("/hosts/h1/objects").json() == http.get("/hosts/h1/devices").json() == []
    assert lun.read_bytes() == b"precious" * (SIZE // 8)
    assert http.put("/hosts/h1/objects/volume/v1", json=introduction(lun)).json() == known


def test_both_are_idempotent(http, lun):
    """A repeat answers the same, the same id with something else conflicts, forgetting nothing is fine."""
    first = http.put("/hosts/h1/objects/snapshot/s1", json=introduction(lun)).json()
    assert http.put("/hosts/h1/objects/snapshot/s1", json=introduction(lun)).json() == first
    other = http.put("/hosts/h1/objects/snapshot/s1", json=introduction(lun, size=SIZE * 2))
    assert (other.status_code, other.json()["error"]) == (409, "conflict")
    for _ in range(2):
        assert http.delete("/hosts/h1/objects/snapshot/s1").status_code == 204


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"identity": "6001405ffffff"}, 422, "wrong_identity"),
        ({"size": SIZE - 512}, 422, "wrong_size"),
        ({"address": {"path": "/nonexistent"}}, 404, "no_such_storage"),
        ({"address": {"path": "relative"}}, 400, "bad_request"),
        ({"size": "big"}, 400, "bad_request"),
    ],
)
def test_what_is_not_the_object_is_refused(http, lun, change, status, code):
    """Identity and size are verified, and a refusal leaves no trace on the host."""
    reply = http.put("/hosts/h1/objects/volume/v1", json=introduction(lun, **change))
    assert (reply.status_code, reply.json()["error"]) == (status, code)
    assert http.get("/hosts/h1/objects").json() == http.get("/hosts/h1/devices").json() == []


def test_identity_is_the_path_without_a_serial_and_qcow2_has_its_virtual_size(http, tmp_path):
    """A file without serial is identified by its canonical path; of a qcow2 the virtual size counts."""
    path = tmp_path / "disk.qcow2"
    path.write_bytes(b"QFI\xfb" + bytes(20) + SIZE.to_bytes(8, "big") + bytes(1000))
    body: Any = introduction(path, identity=os.path.realpath(path))
    assert http.put("/hosts/h1/objects/volume/q", json=body).json()["error"] == "wrong_format"
    body["address"]["format"] = "qcow2"
    assert http.put("/hosts/h1/objects/volume/q", json=body).json()["size"] == SIZE


def test_forget_of_a_used_object_is_refused(http, lun):
    """As long as a VM of the host has the object as a disk, forget is 409."""
    http.put("/hosts/h1/objects/volume/v1", json=introduction(lun))
    disk = {"object": {"kind": "volume", "id": "v1"}}
    http.put("/vms/vm1", json={"host": "h1", "disks": {"root": disk}}).raise_for_status()
    reply = http.delete("/hosts/h1/objects/volume/v1")
    assert (reply.status_code, reply.json()["error"]) == (409, "in_use")
    http.delete("/vms/vm1/disks/root").raise_for_status()
    assert http.delete("/hosts/h1/objects/volume/v1").status_code == 204


def test_a_vm_cannot_use_what_its_host_does_not_know(http, lun):
    """Attaching an object needs its introduction."""
    http.put("/vms/vm1", json={"host": "h1"}).raise_for_status()
    disk = {"object": {"kind": "volume", "id": "v1"}}
    assert http.put("/vms/vm1/disks/root", json=disk).status_code == 404
    http.put("/hosts/h1/objects/volume/v1", json=introduction(lun))
    first = http.put("/vms/vm1/disks/root", json=disk).raise_for_status().json()
    assert http.put("/vms/vm1/disks/root", json=disk).json() == first


@every_family
def test_host_crash_stops_its_vms_and_kvm_forgets(http, lun, family):
    """After a crash VMs are off; KVM hosts need the object introduced again, the others remember it."""
    http.put("/hosts/h1/objects/volume/v1", json=introduction(lun))
    http.put("/vms/vm1", json={"host": "h1", "disks": {"root": {"object": {"kind": "volume", "id": "v1"}}}})
    http.post("/vms/vm1/start").raise_for_status()
    http.post("/hosts/h1/state", json={"state": "crashed"}).raise_for_status()
    assert http.get("/vms/vm1").json()["state"] == "stopped"
    assert http.post("/vms/vm1/start").status_code == 503
    assert http.put("/hosts/h1/objects/volume/v1", json=introduction(lun)).status_code == 503
    http.post("/hosts/h1/state", json={"state": "up"})
    remembers = family != "KVM"
    assert bool(http.get("/hosts/h1/objects").json()) is remembers
    assert http.post("/vms/vm1/start").status_code == (200 if remembers else 404)
    http.put("/hosts/h1/objects/volume/v1", json=introduction(lun)).raise_for_status()
    assert http.post("/vms/vm1/start").status_code == 200


def test_export_names_are_not_shown(http, cluster, tmp_path):
    """An NBD export's name holds a proof of the grant: no reply, and no file that others can read, has it."""
    address = {"host": "127.0.0.1", "port": 1, "export": "6001405:iqn:proof-of-grant"}
    reply = http.put("/hosts/h1/objects/volume/v1", json={"address": address, "identity": "x", "size": 1})
    assert reply.status_code == 404
    assert "proof-of-grant" not in reply.text
    assert (tmp_path / "state" / "cluster.sqlite").stat().st_mode & 0o077 == 0


class TestDefects:
    """The switches around objects."""

    def test_wrong_object_appears(self, cluster, http, lun):
        """The answer's identity is not the one asked for."""
        cluster.defects.update({"introduce_wrong_object": True})
        known = http.put("/hosts/h1/objects/volume/v1", json=introduction(lun)).raise_for_status().json()
        assert known["identity"] != "6001405abcdef"
        assert Path(known["address"]["path"]).read_bytes() != lun.read_bytes()

    def test_wrong_size_appears(self, cluster, http, lun):
        """The host shows half of the size."""
        cluster.defects.update({"introduce_wrong_size": True})
        assert http.put("/hosts/h1/objects/volume/v1", json=introduction(lun)).json()["size"] == SIZE // 2

    def test_forget_deletes_or_leaves_a_device(self, cluster, http, lun):
        """One broken forget removes the data, another leaves the device."""
        cluster.defects.update({"forget_deletes_data": True, "forget_leaves_device": True})
        http.put("/hosts/h1/objects/volume/v1", json=introduction(lun))
        assert http.delete("/hosts/h1/objects/volume/v1").status_code == 204
        assert not lun.exists()
        assert len(http.get("/hosts/h1/devices").json()) == 1

    def test_unavailable(self, http):
        """So many requests are 503, the switchboard excepted."""
        assert http.put("/sim/defects", json={"unavailable": 1}).json()["unavailable"] == 1
        assert [http.get("/hosts").status_code for _ in range(2)] == [503, 200]
