"""A running array, a REST caller and a host that speaks NBD by hand, for the tests of the simulator."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from bollard.simulators.array import ArraySimulator, export_name

IQN = "iqn.2024-01.org.example:host-1"
SECRET = "correct-horse-battery"
CHUNK = 65536
ERROR, STRUCTURED = 0x80000000, 8


class NbdError(Exception):
    """The server answered with this errno, or refused an option with this reply."""


class NbdClient:
    """Simple or structured replies, one request at a time, nothing hidden."""

    def __init__(self, port: int, *, structured: bool = False) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=20)
        assert self.receive(16) == b"NBDMAGICIHAVEOPT"
        self.receive(2)
        self.sock.sendall((3).to_bytes(4, "big"))
        self.size = self.flags = 0
        self.structured = structured
        if structured:
            self.option(STRUCTURED, b"")

    def receive(self, length: int) -> bytes:
        """Exactly so many bytes; ConnectionError when the server hangs up."""
        data = b""
        while len(data) < length:
            piece = self.sock.recv(length - len(data))
            if not piece:
                raise ConnectionError
            data += piece
        return data

    def option(self, number: int, data: bytes) -> list[tuple[int, bytes]]:
        """Haggle; the replies up to ACK. NbdError carries a refusal."""
        self.sock.sendall(struct.pack(">8sII", b"IHAVEOPT", number, len(data)) + data)
        replies: list[Any] = []
        while True:
            _, _, kind, length = struct.unpack(">QIII", self.receive(20))
            body = self.receive(length)
            if kind & ERROR:
                raise NbdError(kind)
            if kind == 1:
                return replies
            replies.append((kind, body))

    def go(self, name: str) -> NbdClient:
        """Enter the transmission phase of an export."""
        for _, body in self.option(7, struct.pack(">I", len(name)) + name.encode() + b"\0\0"):
            if body[:2] == b"\0\0":
                self.size, self.flags = struct.unpack(">QH", body[2:])
        return self

    def send(self, command: int, offset: int, length: int, data: bytes = b"", flags: int = 0) -> None:
        """Send a request without waiting for its reply."""
        self.sock.sendall(struct.pack(">IHHQQI", 0x25609513, flags, command, 7, offset, length) + data)

    def simple_reply(self, length: int = 0) -> bytes:
        """The payload of a simple reply. NbdError carries its errno."""
        magic, error, cookie = struct.unpack(">IIQ", self.receive(16))
        assert (magic, cookie) == (0x67446698, 7)
        if error:
            raise NbdError(error)
        return self.receive(length)

    def chunks(self) -> list[tuple[int, bytes]]:
        """The chunks of a structured reply. NbdError carries an error chunk's errno."""
        found = []
        while True:
            magic, flags, kind, _, length = struct.unpack(">IHHQI", self.receive(20))
            assert magic == 0x668E33EF
            body = self.receive(length)
            if kind & 0x8000:
                raise NbdError(struct.unpack(">I", body[:4])[0])
            found.append((kind, body))
            if flags & 1:
                return found

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the export."""
        self.send(0, offset, length)
        return self.simple_reply(length)

    def write(self, offset: int, data: bytes, *, fua: bool = False) -> None:
        """Store bytes."""
        self.send(1, offset, len(data), data, int(fua))
        self.simple_reply()

    def flush(self) -> None:
        """Make what was acknowledged durable."""
        self.send(3, 0, 0)
        self.simple_reply()

    def zero(self, offset: int, length: int) -> None:
        """Write zeroes without sending them."""
        self.send(6, offset, length)
        self.simple_reply()

    def trim(self, offset: int, length: int) -> None:
        """Discard."""
        self.send(4, offset, length)
        self.simple_reply()

    def close(self) -> None:
        """Say goodbye and wait until the server has closed, so that its end of the session is over."""
        self.send(2, 0, 0)
        while self.sock.recv(4096):
            pass
        self.sock.close()

    def __enter__(self) -> NbdClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


class Api:
    """A logged-in REST client; every call says which status it expects."""

    def __init__(self, sim: ArraySimulator, client: httpx.Client) -> None:
        self.sim = sim
        self.http = client
        credentials = {"username": sim.admin_user, "password": sim.admin_password}
        token = self.call("POST", "/sessions", credentials, status=201)["token"]
        client.headers["Authorization"] = f"Bearer {token}"

    def call(self, method: str, path: str, body: object = None, *, status: int = 200, **more: Any) -> Any:
        """The answer's JSON, after checking its status."""
        reply = self.http.request(method, f"/api/v1{path}", json=body, **more)
        assert reply.status_code == status, reply.text
        return reply.json() if reply.content else None

    def error(self, method: str, path: str, body: object = None, *, status: int, **more: Any) -> str:
        """The code of a refusal."""
        return str(self.call(method, path, body, status=status, **more)["code"])

    def volume(self, name: str = "v1", chunks: int = 16, **more: Any) -> Any:
        """A new volume."""
        body = {"name": name, "pool": "pool-a", "size": chunks * CHUNK, **more}
        return self.call("POST", "/volumes", body, status=201)

    def snapshot(self, volume: Any, name: str = "s1") -> Any:
        """A new snapshot."""
        return self.call("POST", f"/volumes/{volume['id']}/snapshots", {"name": name}, status=201)

    def clone(self, path: str, name: str, **more: Any) -> Any:
        """A finished clone of ``/volumes/ID`` or ``/snapshots/ID``."""
        job = self.call("POST", f"{path}/clone", {"name": name, **more}, status=202)
        return self.finished(job)

    def finished(self, job: Any) -> Any:
        """The job's volume, once the job is done."""
        while self.call("GET", f"/jobs/{job['id']}")["state"] == "running":
            pass
        return self.call("GET", f"/volumes/{job['target']['id']}")

    def host(self, iqn: str = IQN, secret: str = SECRET) -> Any:
        """A registered initiator."""
        found = self.call("GET", "/initiators", params={"iqn": iqn})["items"]
        body = {"iqn": iqn, "chap_user": "user", "chap_secret": secret}
        return found[0] if found else self.call("POST", "/initiators", body, status=201)

    def grant(self, volume: Any, *, read_only: bool = False, iqn: str = IQN) -> Any:
        """A grant to a host."""
        body = {"initiator": self.host(iqn)["id"], "read_only": read_only}
        return self.call("POST", f"/volumes/{volume['id']}/grants", body, status=201)

    def revoke(self, grant: Any) -> None:
        """Take a grant back."""
        self.call("DELETE", f"/volumes/{grant['volume']}/grants/{grant['id']}", status=204)

    def attach(self, volume: Any, *, iqn: str = IQN, secret: str = SECRET) -> NbdClient:
        """A data session of a host that was granted the volume."""
        client = NbdClient(self.sim.nbd_port)
        try:
            return client.go(export_name(volume["serial"], iqn, secret))
        except NbdError:
            client.sock.close()
            raise

    def put(self, volume: Any, offset: int, data: bytes) -> None:
        """Grant, write, disconnect, revoke."""
        grant = self.grant(volume)
        with self.attach(volume) as host:
            host.write(offset, data)
            host.close()
        self.revoke(grant)

    def get(self, volume: Any, offset: int = 0, length: int | None = None) -> bytes:
        """Grant, read, disconnect, revoke."""
        grant = self.grant(volume)
        with self.attach(volume) as host:
            data = host.read(offset, host.size if length is None else length)
            host.close()
        self.revoke(grant)
        return data


Connect = Callable[[ArraySimulator], Api]


def _client(sim: ArraySimulator) -> httpx.Client:
    # Without an authority of its own httpx would load the system's, 0.2 s each time.
    trust = (
        ssl.create_default_context(cafile=str(sim.ca)) if sim.ca else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    )
    return httpx.Client(base_url=sim.url, timeout=20, verify=trust)


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Logs in to an array; the connection is closed after the test."""
    with ExitStack() as stack:
        yield lambda sim: Api(sim, stack.enter_context(_client(sim)))


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[ArraySimulator]:
    """An array with one pool of 64 MiB, over plain HTTP, whose jobs are done at once."""
    with ArraySimulator(tmp_path / "array", pools={"pool-a": 2**26}, tls=False, job_seconds=0.0) as array:
        yield array


@pytest.fixture
def api(sim: ArraySimulator, connect: Connect) -> Api:
    """A REST client of that array."""
    return connect(sim)


@pytest.fixture
def nbd() -> type[NbdClient]:
    """The client class, for tests that bring their own server."""
    return NbdClient


@pytest.fixture
def nbd_error() -> type[NbdError]:
    """What the client raises when it is refused."""
    return NbdError
