"""The way of an archive through a hypervisor's host, for each family: the clone beside its original.

clone ─> grant ─> introduce (resignature) ─> read ─> verify ─> forget ─> revoke ─> delete clone, snapshot
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from bollard.core.dataplane import open_sink, open_source
from bollard.core.pool import Pool, open_pool
from bollard.core.spi import (
    Conflict,
    DataLoss,
    Host,
    Introduction,
    Location,
    ObjectKind,
    Volume,
    VolumeSpec,
    parse_options,
)
from bollard.drivers.hypervisor.driver import SimulatedHypervisorDriver
from bollard.simulators.array import ArraySimulator
from bollard.simulators.hypervisor import HypervisorSimulator
from bollard.transfer_objects.ids import HostId, SnapshotId, VmId, VolumeId
from bollard.transfer_objects.secret import Secret
from primary_rig import MIB, call

# Without it each client loads the CA certificates, which takes 100 ms.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
WEB, CLONE, MONDAY, VM = VolumeId("web-1"), VolumeId("tmp-1"), SnapshotId("monday"), VmId("vm-1")
FAMILIES = ["KVM", "VMware", "XenServer", "Hyperv"]
IQN = "iqn.2026-01.org.example:h1"
H1 = Host(id=HostId("h1"), iqn=IQN, chap_user="h1", chap_secret=Secret("0123456789abcdef"))
DATA = b"header of the LUN" * 64 + b"data" * 30000


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """A hypervisor family, as CloudStack spells it."""
    return str(request.param)


@pytest.fixture
def http(tmp_path: Path, family: str) -> Iterator[httpx.Client]:
    """The face of a cluster with one host and a VM that is off."""
    with (
        HypervisorSimulator(tmp_path / "cluster", personality=family) as cluster,
        httpx.Client(verify=NO_TLS, base_url=cluster.url, timeout=20) as client,
    ):
        client.put("/hosts/h1", json={"initiator": IQN}).raise_for_status()
        client.put(f"/vms/{VM}", json={"host": "h1"}).raise_for_status()
        yield client


@pytest.fixture
def hypervisor(http: httpx.Client) -> Iterator[SimulatedHypervisorDriver]:
    """The driver of the cluster."""
    options = parse_options(SimulatedHypervisorDriver.Options, {"url": str(http.base_url)})
    with closing(SimulatedHypervisorDriver(options)) as driver:
        yield driver


@pytest.fixture(scope="module")
def array(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArraySimulator]:
    """An array."""
    state = tmp_path_factory.mktemp("array")
    with ArraySimulator(state, pools={"gold": 2**30}, tls=False, job_seconds=0.0) as simulator:
        yield simulator


@pytest.fixture
def pool(array: ArraySimulator, family: str) -> Iterator[Pool]:
    """A pool of the array, with an owner of its own."""
    options = {
        "url": array.url,
        "username": array.admin_user,
        "password": array.admin_password,
        "pool": "gold",
        "owner": family.lower(),
        "allow_http": True,
    }
    with open_pool("gold", "array", options) as opened:
        yield opened


def _granted(pool: Pool, volume: Volume) -> tuple[Introduction, Location]:
    """Give h1 access to a volume; return how to introduce it there, and where it is."""
    location = pool.volumes.grant(volume.id, H1)
    what = Introduction(
        kind=ObjectKind.VOLUME,
        object_id=volume.id,
        host=H1.id,
        location=location,
        identity=volume.identity,
        size=volume.size,
    )
    return what, location


def _content(location: Location) -> bytes:
    with open_source(location, timeout=10) as source:
        content = bytearray(source.size)
        source.read_into(0, memoryview(content))
    return bytes(content)


def _write(pool: Pool, volume: VolumeId, data: bytes) -> None:
    with open_sink(pool.volumes.grant(volume, H1), timeout=10) as sink:
        sink.write(0, data + bytes(-len(data) % 4096))
        sink.flush()


def _known(http: httpx.Client, what: str = "objects") -> dict[str, dict[str, Any]]:
    return {one["id"]: one for one in http.get(f"/hosts/h1/{what}").json()}


@pytest.fixture
def known_volume(pool: Pool, hypervisor: SimulatedHypervisorDriver) -> Volume:
    """A volume with data that h1 knows and a VM has."""
    made = pool.volumes.create(VolumeSpec(id=WEB, size=MIB))
    _write(pool, WEB, DATA)
    what, _ = _granted(pool, made)
    hypervisor.attach(VM, hypervisor.introduce(what, call()), call())
    return made


@pytest.fixture
def clone(pool: Pool, known_volume: Volume) -> Volume:
    """A clone of a snapshot of that volume, which has gone on since."""
    pool.snapshots.create(known_volume.id, MONDAY)
    _write(pool, WEB, DATA[:4096] + b"later" * 10000)
    return pool.volumes.from_snapshot(MONDAY, VolumeSpec(id=CLONE, size=MIB))


def test_a_clone_is_introduced_read_and_forgotten_beside_its_original(
    pool: Pool, hypervisor: SimulatedHypervisorDriver, http: httpx.Client, known_volume: Volume, clone: Volume
) -> None:
    """Each family takes it under a place of its own, its bytes are the snapshot's, and no trace stays."""
    before = _known(http)
    what, location = _granted(pool, clone)
    known = hypervisor.introduce(what, call())
    assert hypervisor.introduce(what, call()) == known
    assert known.path != before[WEB]["place"]["path"]

    assert _content(location) == DATA + bytes(MIB - len(DATA))
    hypervisor.forget(ObjectKind.VOLUME, CLONE, H1.id, call())
    assert _known(http) == before
    assert list(_known(http, "devices")) == [WEB]
    pool.volumes.revoke(CLONE, H1.id)
    pool.volumes.delete(CLONE)
    pool.snapshots.delete(MONDAY)

    assert [v.id for v in pool.volumes.list()] == [WEB]
    assert [g.volume for g in pool.volumes.grants(WEB)] == [WEB]
    assert list(http.get(f"/vms/{VM}").json()["disks"]) == [WEB]
    assert _content(pool.volumes.grant(WEB, H1))[:54096] == (DATA[:4096] + b"later" * 10000)[:54096]
    assert known_volume.identity != clone.identity


def test_a_resignature_writes_nothing_to_the_clone(
    pool: Pool, hypervisor: SimulatedHypervisorDriver, clone: Volume
) -> None:
    """What a guest sees of the clone is what the snapshot holds, after it was introduced and forgotten."""
    what, _ = _granted(pool, clone)
    hypervisor.introduce(what, call())
    hypervisor.forget(ObjectKind.VOLUME, CLONE, H1.id, call())
    assert _content(pool.volumes.grant(CLONE, H1)) == DATA + bytes(MIB - len(DATA))


def test_families_with_signatures_refuse_a_copy_under_the_old_one(
    pool: Pool, http: httpx.Client, family: str, clone: Volume
) -> None:
    """VMware and XenServer want a new signature for it; its place then tells that it is a copy."""
    what, location = _granted(pool, clone)
    host, port = location.address  # type: ignore[union-attr, misc]  # the array serves NBD over TCP
    address = {"host": host, "port": port, "export": location.export.reveal()}  # type: ignore[union-attr]  # idem
    body = {"address": address, "identity": what.identity, "size": what.size}
    answer = http.put(f"/hosts/h1/objects/volume/{CLONE}", json=body)
    if family in ("KVM", "Hyperv"):
        assert answer.status_code == 200
        return
    assert (answer.status_code, answer.json()["error"]) == (409, "duplicate_signature")
    assert list(_known(http)) == [WEB]

    body["resignature"] = True
    shown = http.put(f"/hosts/h1/objects/volume/{CLONE}", json=body).raise_for_status().json()
    assert shown["signature"] != _known(http)[WEB]["signature"]
    if family == "VMware":
        assert shown["place"]["datastore"].startswith("snap-")
    else:
        assert shown["place"]["sr"] != _known(http)[WEB]["place"]["sr"]


def test_another_lun_in_the_place_of_the_clone_is_not_taken_for_it(
    pool: Pool, hypervisor: SimulatedHypervisorDriver, http: httpx.Client, known_volume: Volume, clone: Volume
) -> None:
    """The identity decides before any signature: the original is no clone of itself."""
    what, _ = _granted(pool, clone)
    wrong = replace(what, location=pool.volumes.grant(WEB, H1))
    with pytest.raises(DataLoss):
        hypervisor.introduce(wrong, call())
    assert list(_known(http)) == [WEB]
    with pytest.raises(Conflict):
        hypervisor.introduce(replace(what, object_id=known_volume.id), call())
