"""Guests and hosts of the simulated cluster on NBD exports, as arrays give them."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bollard.core.nbd_server import Export, Extent, NbdServer
from bollard.simulators.hypervisor import HypervisorSimulator, examine

SIZE = 1024 * 1024
NAME = "6001405abcdef:iqn.2026-01.org.example:h1:proof-of-grant"

# Without it each client loads the CA certificates, which takes 100 ms.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class FileBackend:
    """An NBD export whose bytes are a file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("r+b", buffering=0)

    def size(self) -> int:
        """Bytes."""
        return SIZE

    def read(self, offset: int, into: memoryview) -> None:
        """Fills the buffer."""
        self._file.seek(offset)
        self._file.readinto(into)

    def write(self, offset: int, data: memoryview) -> None:
        """Stores the bytes."""
        self._file.seek(offset)
        self._file.write(data)

    def zero(self, offset: int, length: int) -> None:
        """Stores zeroes."""
        self.write(offset, memoryview(bytes(length)))

    def flush(self) -> None:
        """Nothing is buffered."""
        self._file.flush()

    def extents(self, _offset: int, length: int) -> list[Extent]:
        """All data."""
        return [Extent(length, data=True)]

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class OneExport:
    """Serves ``NAME`` and nothing else."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self, name: str) -> Export | None:
        """The export, to who knows its name."""
        return Export(backend=FileBackend(self.path)) if name == NAME else None


@pytest.fixture
def lun(tmp_path) -> Path:
    """The file behind the export."""
    path = tmp_path / "lun"
    path.write_bytes(bytes(SIZE))
    return path


@pytest.fixture
def array(lun) -> Iterator[NbdServer]:
    """A real NBD server."""
    server = NbdServer(OneExport(lun))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def http(tmp_path) -> Iterator[httpx.Client]:
    """A client of a cluster with one host."""
    cluster = HypervisorSimulator(tmp_path / "state")
    with cluster, httpx.Client(verify=NO_TLS, base_url=cluster.url) as client:
        client.put("/hosts/h1", json={"initiator": "iqn.2026-01.org.example:h1"})
        yield client


def introduction(array: NbdServer, export: str = NAME) -> dict[str, object]:
    """What the host shall find."""
    address = {"host": "127.0.0.1", "port": array.port, "export": export}
    return {"address": address, "identity": "6001405abcdef", "size": SIZE}


def test_guest_on_an_introduced_lun(http, array, lun):
    """Identity and size are read from the server, and the guest's blocks arrive on the LUN."""
    known = http.put("/hosts/h1/objects/volume/v1", json=introduction(array)).raise_for_status().json()
    assert (known["identity"], known["size"]) == ("6001405abcdef", SIZE)
    disk = {"object": {"kind": "volume", "id": "v1"}, "slots": 8}
    http.put("/vms/vm1", json={"host": "h1", "disks": {"root": disk}}).raise_for_status()
    http.post("/vms/vm1/start").raise_for_status()
    http.post("/vms/vm1/write", json={"blocks": 20}).raise_for_status()
    cut = examine({"root": lun})
    assert (cut.generation, cut.problems) == (20, ())
    assert "proof-of-grant" not in http.get("/vms/vm1").text
    assert http.put("/vms/vm1/snapshots/s1").json()["error"] == "unsupported"


def test_wrong_lun_is_refused(http, array):
    """A serial that is not the expected one, or an export that the array refuses, is not introduced."""
    other = {**introduction(array), "identity": "6001405ffffff"}
    assert http.put("/hosts/h1/objects/volume/v1", json=other).json()["error"] == "wrong_identity"
    denied = introduction(array, "6001405abcdef:somebody:else")
    reply = http.put("/hosts/h1/objects/volume/v1", json=denied)
    assert reply.json()["error"] == "no_such_storage"
    assert "somebody" not in reply.text


def test_kicked_guest_gets_io_errors_and_recovers(http, array, lun):
    """A session that the array ended is an I/O error for the guest; with access it goes on where it was."""
    http.put("/hosts/h1/objects/volume/v1", json=introduction(array))
    disk = {"object": {"kind": "volume", "id": "v1"}, "slots": 8}
    http.put("/vms/vm1", json={"host": "h1", "disks": {"root": disk}})
    http.post("/vms/vm1/start")
    http.post("/vms/vm1/write", json={"blocks": 5}).raise_for_status()
    array.kick(lambda _name: True)
    assert http.post("/vms/vm1/write", json={"blocks": 1}).json()["error"] == "storage_failed"
    assert http.get("/vms/vm1").json()["io_errors"] == 1
    assert http.post("/vms/vm1/write", json={"blocks": 1}).json()["generation"] == 6
    assert examine({"root": lun}).problems == ()
