"""The NBD server, seen by nbdinfo, nbdcopy, qemu-img and a client that breaks rules."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bollard.core.nbd_server import Backend, Export, Extent, NbdServer
from bollard.simulators.array.tls import certificates

SIZE = 4 * 2**20
STEP = 4096


class Memory:
    """A backend in memory that knows its holes in steps of 4 KiB, and can be stopped in a write."""

    def __init__(self, size: int = SIZE) -> None:
        self.data = bytearray(size)
        self.flushes = self.closes = 0
        self.writing, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def size(self) -> int:
        """Bytes."""
        return len(self.data)

    def read(self, offset: int, into: memoryview) -> None:
        """Copy out."""
        into[:] = memoryview(self.data)[offset : offset + len(into)]

    def write(self, offset: int, data: memoryview) -> None:
        """Copy in, once the test lets go."""
        self.writing.set()
        assert self.go_on.wait(20)
        self.data[offset : offset + len(data)] = data

    def zero(self, offset: int, length: int) -> None:
        """Clear."""
        self.data[offset : offset + length] = bytes(length)

    def flush(self) -> None:
        """Count."""
        self.flushes += 1

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """Per 4 KiB, neighbours not joined."""
        end = offset + length
        while offset < end:
            stop = min(end, offset - offset % STEP + STEP)
            yield Extent(stop - offset, any(self.data[offset:stop]))
            offset = stop

    def close(self) -> None:
        """Count."""
        self.closes += 1


class Shelf:
    """Exports by name."""

    def __init__(self, **exports: Export) -> None:
        self.exports = exports

    def open(self, name: str) -> Export | None:
        """The export of that name."""
        return self.exports.get(name)


Serve = Callable[..., tuple[NbdServer, Memory]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server with one export called disk; stops it after the test."""
    servers: list[NbdServer] = []

    def start(**options: Any) -> tuple[NbdServer, Memory]:
        memory = Memory()
        backend: Backend = memory
        tls = {key: options.pop(key) for key in ("tls", "tls_required") if key in options}
        server = NbdServer(Shelf(disk=Export(backend=backend, **options)), **tls)
        server.start()
        servers.append(server)
        return server, memory

    yield start
    for server in servers:
        server.stop()


def run(*command: object, status: int = 0) -> str:
    """The output of a tool that ends with the status."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == status, done.stderr
    return done.stdout


def uri(server: NbdServer) -> str:
    """Where the tools find the disk."""
    return f"nbd://127.0.0.1:{server.port}/disk"


def sparse_image(path: Path) -> Path:
    """An image with data, holes and an odd distribution of both."""
    pieces = [os.urandom(300_000), bytes(700_000), os.urandom(5_000), bytes(2_000_000), os.urandom(9)]
    path.write_bytes(b"".join(pieces).ljust(SIZE, b"\0"))
    return path


@pytest.mark.real
def test_nbdinfo_sees_what_the_export_can_do(serve: Serve) -> None:
    """Size, flags, block sizes and the allocation context reach libnbd."""
    server, _ = serve()
    shown = run("nbdinfo", "--json", uri(server))
    for fact in (
        f'"export-size": {SIZE}',
        '"can_multi_conn": true',
        '"can_df": true',
        '"can_fua": true',
        '"can_trim": true',
        '"can_zero": true',
        '"is_read_only": false',
        '"base:allocation"',
        '"block_minimum": 512',
    ):
        assert fact.replace("block_minimum", "block_size_minimum") in shown


@pytest.mark.real
def test_listing_hides_exports_and_unknown_names_are_refused(serve: Serve) -> None:
    """A client must know the name; guessing tells it nothing."""
    server, _ = serve()
    assert "disk" not in run("nbdinfo", "--list", f"nbd://127.0.0.1:{server.port}")
    run("nbdinfo", f"nbd://127.0.0.1:{server.port}/other", status=1)


@pytest.mark.real
def test_an_image_goes_in_and_comes_out_unchanged(serve: Serve, tmp_path: Path) -> None:
    """With several connections nbdcopy and qemu-img agree with the server on every byte."""
    server, memory = serve()
    image = sparse_image(tmp_path / "in.raw")
    run("nbdcopy", "--flush", image, uri(server))
    assert memory.flushes > 0
    assert hashlib.sha256(memory.data).digest() == hashlib.sha256(image.read_bytes()).digest()
    run("nbdcopy", uri(server), tmp_path / "out.raw")
    assert (tmp_path / "out.raw").read_bytes() == image.read_bytes()
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", image, uri(server))


@pytest.mark.real
def test_qemu_writes_reads_zeroes_and_discards(serve: Serve, tmp_path: Path) -> None:
    """qemu-img convert and qemu-io work, and the map shows the holes they made."""
    server, memory = serve()
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", sparse_image(tmp_path / "in.raw"), uri(server))
    assert memory.data == (tmp_path / "in.raw").read_bytes()
    writes = ("-c", "write -P 9 64k 64k", "-c", "write -z 1M 64k", "-c", "discard 128k 64k", "-c", "flush")
    run("qemu-io", "-f", "raw", *writes, uri(server))
    checks = ("-c", "read -P 9 64k 64k", "-c", "read -P 0 1M 64k", "-c", "read -P 0 128k 64k")
    assert "failed" not in run("qemu-io", "-f", "raw", *checks, uri(server))
    allocation = run("nbdinfo", "--map", uri(server)).splitlines()
    assert [line.split()[:4] for line in allocation][:2] == [
        ["0", "131072", "0", "data"],
        ["131072", "65536", "3", "hole,zero"],
    ]


@pytest.mark.real
def test_a_read_only_export_refuses_writers(serve: Serve) -> None:
    """The flag is told, and a client that ignores it gets EPERM."""
    server, memory = serve(read_only=True)
    assert '"is_read_only": true' in run("nbdinfo", "--json", uri(server))
    run("qemu-io", "-f", "raw", "-c", "write 0 512", uri(server), status=1)
    assert not any(memory.data)


@pytest.mark.parametrize(("command", "data"), [(1, bytes(512)), (4, b""), (6, b"")])
def test_changes_of_a_read_only_export_are_eperm(
    serve: Serve, nbd: Any, nbd_error: Any, command: int, data: bytes
) -> None:
    """Each changing command is refused on its own, whatever the client was told."""
    server, _ = serve(read_only=True)
    with nbd(server.port).go("disk") as client:
        client.send(command, 0, 512, data)
        with pytest.raises(nbd_error, match=str(errno.EPERM)):
            client.simple_reply()


@pytest.mark.parametrize(
    ("command", "offset", "length", "number"),
    [
        (0, SIZE, 512, errno.EINVAL),
        (0, 1, 512, errno.EINVAL),
        (0, 0, 0, errno.EINVAL),
        (6, SIZE - 512, 1024, errno.ENOSPC),
        (4, 0, 511, errno.EINVAL),
        (7, 0, 512, errno.EINVAL),
        (99, 0, 512, errno.EINVAL),
        (0, 2**64 - 512, 512, errno.EINVAL),
    ],
)
def test_bad_requests_get_an_error_and_the_session_goes_on(
    serve: Serve, nbd: Any, nbd_error: Any, command: int, offset: int, length: int, number: int
) -> None:
    """Out of range, misaligned, empty, unnegotiated and unknown requests are answered, not dropped."""
    server, _ = serve()
    with nbd(server.port).go("disk") as client:
        client.send(command, offset, length)
        with pytest.raises(nbd_error, match=f"^{number}$"):
            client.simple_reply()
        assert client.read(0, 512) == bytes(512)


def test_structured_reads_send_holes_as_holes(serve: Serve, nbd: Any) -> None:
    """A zero area costs 32 bytes on the wire; with DF the reply is one piece."""
    server, memory = serve()
    memory.data[STEP : 2 * STEP] = b"x" * STEP
    with nbd(server.port, structured=True).go("disk") as client:
        client.send(0, 0, 3 * STEP)
        hole, data, tail = client.chunks()
        assert hole == (2, struct.pack(">QI", 0, STEP))
        assert data == (1, struct.pack(">Q", STEP) + b"x" * STEP)
        assert tail == (2, struct.pack(">QI", 2 * STEP, STEP))
        client.send(0, 0, 2 * STEP, flags=4)
        assert client.chunks() == [(1, bytes(8) + bytes(STEP) + b"x" * STEP)]


def test_errors_of_the_backend_reach_the_client(
    serve: Serve, nbd: Any, nbd_error: Any, monkeypatch: Any
) -> None:
    """ENOSPC stays ENOSPC in both reply styles; what NBD cannot carry becomes EIO."""
    server, memory = serve()

    def full(_offset: int, _data: memoryview) -> None:
        raise OSError(errno.ENOSPC, "full")

    def odd() -> None:
        raise OSError(errno.EXDEV, "odd")

    monkeypatch.setattr(memory, "write", full)
    monkeypatch.setattr(memory, "flush", odd)
    with nbd(server.port).go("disk") as client:
        with pytest.raises(nbd_error, match=str(errno.ENOSPC)):
            client.write(0, bytes(512))
        with pytest.raises(nbd_error, match=f"^{errno.EIO}$"):
            client.flush()
    with nbd(server.port, structured=True).go("disk") as client:
        client.send(1, 0, 512, bytes(512))
        with pytest.raises(nbd_error, match=str(errno.ENOSPC)):
            client.chunks()


def test_fua_flushes_and_the_end_of_a_session_closes_the_backend(serve: Serve, nbd: Any) -> None:
    """FUA is a flush after the write; each open is followed by one close."""
    server, memory = serve()
    with nbd(server.port).go("disk") as client:
        client.write(0, b"a" * 512, fua=True)
        assert memory.flushes == 1
        client.close()
    server.kick(lambda _name: True)
    assert memory.closes == 1
    assert server.sessions() == []


def test_the_old_export_name_option_works(serve: Serve, nbd: Any) -> None:
    """Clients from before NBD_OPT_GO get in, and unknown names are hung up on."""
    server, _ = serve()
    with nbd(server.port) as client:
        client.sock.sendall(struct.pack(">8sII", b"IHAVEOPT", 1, 4) + b"disk")
        assert struct.unpack(">Q", client.receive(10)[:8]) == (SIZE,)
        assert client.read(0, 512) == bytes(512)
    with nbd(server.port) as client:
        client.sock.sendall(struct.pack(">8sII", b"IHAVEOPT", 1, 4) + b"none")
        with pytest.raises(ConnectionError):
            client.receive(1)


@pytest.mark.parametrize("data", [b"", b"\0\0\0\x09disk\0\0", b"\0\0\0\x04disk\0\x02\0\0"])
def test_malformed_options_are_invalid(serve: Serve, nbd: Any, nbd_error: Any, data: bytes) -> None:
    """Lengths that lie are refused, and the haggling goes on."""
    server, _ = serve()
    with nbd(server.port) as client:
        with pytest.raises(nbd_error, match=str(0x80000003)):
            client.option(7, data)
        assert client.go("disk").size == SIZE


def test_a_meta_context_needs_structured_replies_and_the_same_export(
    serve: Serve, nbd: Any, nbd_error: Any
) -> None:
    """Block status is for those who negotiated it, in the order that the protocol wants."""
    server, memory = serve()
    memory.data[0:1] = b"x"
    query = struct.pack(">I4sII15s", 4, b"disk", 1, 15, b"base:allocation")
    with nbd(server.port) as client, pytest.raises(nbd_error, match=str(0x80000003)):
        client.option(10, query)
    with nbd(server.port, structured=True) as client:
        assert client.option(10, query) == [(4, struct.pack(">I", 1) + b"base:allocation")]
        client.go("disk").send(7, 0, 2 * STEP)
        assert client.chunks() == [(5, struct.pack(">IIIII", 1, STEP, 0, STEP, 3))]
        client.send(7, 0, 2 * STEP, flags=8)
        assert client.chunks() == [(5, struct.pack(">III", 1, STEP, 0))]


@pytest.mark.parametrize("noise", [b"GET / HTTP/1.1\r\n\r\n", bytes(64), b"\xff" * 64])
def test_noise_is_hung_up_on(serve: Serve, nbd: Any, noise: bytes) -> None:
    """What is no NBD client ends its own connection only."""
    server, _ = serve()
    with nbd(server.port) as client:
        client.sock.sendall(noise)
        with pytest.raises(OSError):  # noqa: PT011 - reset or end of stream, by timing
            client.receive(2**20)
    with nbd(server.port).go("disk") as client:
        assert client.read(0, 512) == bytes(512)


def test_a_kick_waits_for_the_write_in_flight_and_lets_none_in_after(serve: Serve, nbd: Any) -> None:
    """When the kick returns the old client's bytes have landed already, and no later ones ever do."""
    server, memory = serve()
    memory.go_on.clear()
    with nbd(server.port).go("disk") as client, nbd(server.port).go("disk") as other:
        client.send(1, 0, 512, b"1" * 512)
        client.send(1, 512, 512, b"2" * 512)  # queued behind the first one, in the server's socket buffer
        assert memory.writing.wait(20)
        kicked = threading.Event()
        kicker = threading.Thread(target=lambda: (server.kick(lambda name: name == "disk"), kicked.set()))
        kicker.start()
        with contextlib.suppress(OSError):  # closed or reset, by timing
            while not kicked.is_set():  # the first reads may be sooner than the kick: one was, in CI
                other.read(0, 512)
        assert not kicked.is_set()
        memory.go_on.set()
        kicker.join(20)
        assert kicked.is_set()
        after = bytes(memory.data[:1024])
    assert after == b"1" * 512 + bytes(512)
    assert server.sessions() == []


def test_a_kick_ends_a_throttled_wait(serve: Serve, nbd: Any) -> None:
    """A session that waits for its turn does not hold the kick up, and its request never lands."""
    told = threading.Event()

    def throttle(_length: int) -> float:
        told.set()
        return 3600.0

    server, memory = serve(throttle=throttle)
    with nbd(server.port).go("disk") as client:
        client.send(1, 0, 512, b"1" * 512)
        assert told.wait(20)
        assert server.kick(lambda name: name == "disk") == 1
    assert not any(memory.data)


@pytest.mark.real
def test_tls_can_be_required(serve: Serve, nbd: Any, nbd_error: Any, tmp_path: Path) -> None:
    """In the clear everything but STARTTLS is refused; libnbd gets through with the right authority."""
    files = certificates(tmp_path / "tls")
    server, memory = serve(tls=files.server_context(), tls_required=True)
    with nbd(server.port) as client, pytest.raises(nbd_error, match=str(0x80000005)):
        client.go("disk")
    (tmp_path / "trust").mkdir()
    (tmp_path / "trust" / "ca-cert.pem").write_bytes(files.ca.read_bytes())
    secure = f"nbds://127.0.0.1:{server.port}/disk?tls-certificates={tmp_path / 'trust'}"
    assert f'"export-size": {SIZE}' in run("nbdinfo", "--json", secure)
    image = sparse_image(tmp_path / "in.raw")
    run("nbdcopy", image, secure)
    assert memory.data == image.read_bytes()


def test_a_kick_reaches_tls_sessions(serve: Serve, nbd: Any, tmp_path: Path) -> None:
    """Shutting a TLS session down from another thread ends it cleanly."""
    files = certificates(tmp_path / "tls")
    server, _ = serve(tls=files.server_context())
    with nbd(server.port) as client:
        client.option(5, b"")
        client.sock = ssl.create_default_context(cafile=str(files.ca)).wrap_socket(
            client.sock, server_hostname="127.0.0.1"
        )
        client.go("disk").write(0, b"s" * 512)
        assert server.kick(lambda name: name == "disk") == 1
        with pytest.raises(OSError):  # noqa: PT011 - end of stream or reset, by timing
            client.read(0, 512)
