"""The NBD client against real servers: nbdkit and qemu-nbd."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import threading
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bollard.core.dataplane import NbdSink, NbdSource, SocketEndpoint, open_sink, open_source
from bollard.core.dataplane.nbd_wire import ExportFlag
from bollard.core.spi import (
    DataLoss,
    Extent,
    ExtentKind,
    InvalidArgument,
    NbdLocation,
    NotFound,
    Outcome,
    OutOfCapacity,
    PermissionDenied,
    StorageError,
    Unavailable,
)
from bollard.transfer_objects.secret import Secret

pytestmark = pytest.mark.real

MIB = 1024 * 1024
DATA, HOLE = ExtentKind.DATA, ExtentKind.HOLE
Address = tuple[str, int] | Path


def source_at(address: Address, export: str = "", **options: object) -> NbdSource:
    """Open an export for reading."""
    return NbdSource(SocketEndpoint(address, timeout=20), Secret(export), **options)  # type: ignore[arg-type]  # a callback, typed by nobody


def sink_at(address: Address, export: str = "", **options: object) -> NbdSink:
    """Open an export for writing."""
    return NbdSink(SocketEndpoint(address, timeout=20), Secret(export), **options)  # type: ignore[arg-type]  # idem


def read(source: NbdSource, offset: int, length: int) -> bytes:
    """Read into a buffer full of rubbish, so that a byte left out shows."""
    buffer = bytearray(b"\xee" * length)
    source.read_into(offset, memoryview(buffer))
    return bytes(buffer)


def test_what_is_written_is_read_over_tcp(images: ModuleType) -> None:
    """Many requests in flight, of odd lengths at odd places, land where they belong."""
    data = images.noise(9 * MIB + 5)
    with images.serve_tcp("nbdkit", "-f", "memory", "32M") as address, sink_at(address) as sink:
        assert sink.size == 32 * MIB
        sink.write(3, data)
        sink.zero(MIB + 1, MIB)
        sink.flush()
        expected = data[: MIB - 2] + bytes(MIB) + data[2 * MIB - 2 :]
        assert read(sink, 3, len(data)) == expected
        assert read(sink, 0, 4) == b"\0\0\0" + data[:1]


def test_extents_of_a_sparse_export_are_merged_and_exact(images: ModuleType, tmp_path: Path) -> None:
    """Data lies exactly in the DATA extents, neighbours differ in kind, and any range can be asked for."""
    command = ("nbdkit", "-f", "sparse-random", "size=32M", "percent=50", "runlength=262144")
    with images.serve_unix(tmp_path / "s", *command) as path, source_at(path) as source:
        extents = list(source.extents(0, source.size))
        assert {extent.kind for extent in extents} == {DATA, HOLE}
        assert all(a.end == b.offset and a.kind is not b.kind for a, b in pairwise(extents))
        assert (extents[0].offset, extents[-1].end) == (0, source.size)
        for extent in extents[:8]:
            assert any(read(source, extent.offset, extent.length)) is (extent.kind is DATA)
        middle = extents[3]
        assert list(source.extents(middle.offset + 1, 2)) == [Extent(middle.offset + 1, 2, middle.kind)]


def test_extents_of_a_huge_volume_are_cheap(images: ModuleType, tmp_path: Path) -> None:
    """Volumes beyond the 32 bits of one request are walked through and come back as one hole."""
    with images.serve_unix(tmp_path / "s", "nbdkit", "-f", "memory", "16G") as path, sink_at(path) as sink:
        sink.write(2**33, b"x" * 65536)
        assert list(sink.extents(0, sink.size)) == [
            Extent(0, 2**33, HOLE),
            Extent(2**33, 65536, DATA),
            Extent(2**33 + 65536, 2**33 - 65536, HOLE),
        ]
        sink.zero(0, sink.size)
        assert list(sink.extents(0, sink.size)) == [Extent(0, 2**34, HOLE)]


def test_trimmed_blocks_are_given_back(images: ModuleType, tmp_path: Path) -> None:
    """A server that can trim frees the range; one that cannot is not bothered."""
    for number, filters in enumerate(([], ["--filter=nozero", "zeromode=none"], ["--filter=blocksize"])):
        command = ("nbdkit", "-f", *[f for f in filters if f[0] == "-"], "memory", "1M")
        extra = [f for f in filters if f[0] != "-"]
        with images.serve_unix(tmp_path / f"s{number}", *command, *extra) as path, sink_at(path) as sink:
            sink.write(0, b"x" * MIB)
            sink.zero(0, 65536)
            sink._client.trim(65536, 65536)
            assert list(sink.extents(131072, 1)) == [Extent(131072, 1, DATA)]
            assert read(sink, 0, 131072) == bytes(131072)


@pytest.mark.parametrize("filters", [["--filter=noextents"], ["--no-sr"]])
def test_a_server_that_cannot_tell_extents_has_data_everywhere(
    images: ModuleType, tmp_path: Path, filters: list[str]
) -> None:
    """Without base:allocation, or without structured replies, all must be read, and can be."""
    command = ("nbdkit", "-f", *filters, "data", "1 2 3 @1048576 4", "size=2M")
    with images.serve_unix(tmp_path / "s", *command) as path, source_at(path) as source:
        assert list(source.extents(0, source.size)) == [Extent(0, 2 * MIB, DATA)]
        assert read(source, 0, 4) == b"\1\2\3\0"
        assert read(source, MIB, 2) == b"\4\0"


def test_a_minimum_block_size_is_respected(images: ModuleType, tmp_path: Path) -> None:
    """Odd reads go through whole blocks; odd writes are refused, not rounded."""
    policy = ("blocksize-minimum=4096", "blocksize-error-policy=error")
    command = ("nbdkit", "-f", "--filter=blocksize-policy", "memory", "1M", *policy)
    with images.serve_unix(tmp_path / "s", *command) as path, sink_at(path) as sink:
        sink.write(4096, b"abcd" * 1024)
        assert read(sink, 4095, 4) == b"\0abc"
        assert list(sink.extents(8191, 1)) == [Extent(8191, 1, DATA)]
        for act in (lambda: sink.write(1, b"x" * 4096), lambda: sink.zero(4096, 5)):
            with pytest.raises(InvalidArgument, match="multiples of 4096"):
                act()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("EIO", DataLoss), ("ENOSPC", OutOfCapacity), ("EPERM", PermissionDenied), ("ESHUTDOWN", Unavailable)],
)
def test_server_errors_are_mapped_and_the_connection_survives(
    images: ModuleType, tmp_path: Path, answer: str, expected: type[StorageError]
) -> None:
    """One refused request among many in flight fails the call only; the next call works."""
    trigger = tmp_path / "broken"
    inject = (f"error={answer}", f"error-file={trigger}", "error-pwrite-rate=100%", "error-pread-rate=100%")
    command = ("nbdkit", "-f", "--filter=error", "memory", "16M", *inject)
    with images.serve_unix(tmp_path / "s", *command) as path, sink_at(path) as sink:
        trigger.touch()
        with pytest.raises(expected) as writing:
            sink.write(0, b"x" * (8 * MIB))
        with pytest.raises(expected) as reading:
            read(sink, 0, 8 * MIB)
        trigger.unlink()
        assert (writing.value.outcome, reading.value.outcome) == (Outcome.UNKNOWN, Outcome.NOT_APPLIED)
        sink.write(0, b"y" * MIB)
        assert read(sink, 0, MIB) == b"y" * MIB


def test_an_unknown_export_is_not_found_and_its_name_stays_secret(images: ModuleType, tmp_path: Path) -> None:
    """The proof of access appears in no part of the error."""
    image = images.create_raw(tmp_path / "a.raw", MIB)
    command = ("qemu-nbd", "-f", "raw", "-x", "right-name", "-t", image)
    with images.serve_unix(tmp_path / "s", *command) as path:
        with pytest.raises(NotFound) as caught:
            source_at(path, "s3cret-ticket")
        assert "s3cret-ticket" not in f"{caught.value!r} {caught.value.detail} {caught.value.__cause__!r}"
        with source_at(path, "right-name") as source:
            assert source.size == MIB


def test_a_stale_size_is_refused(images: ModuleType, tmp_path: Path) -> None:
    """A location that remembers another size than the export has is data loss, not a short copy."""
    with images.serve_unix(tmp_path / "s", "nbdkit", "-f", "memory", "1M") as path:
        right = NbdLocation(address=path, export=Secret(""), size=MIB)
        wrong = NbdLocation(address=path, export=Secret(""), size=2 * MIB)
        open_source(right).close()
        for opener in (open_source, open_sink):
            with pytest.raises(DataLoss, match="stale size"):
                opener(wrong)


def test_a_read_only_export_is_no_sink(images: ModuleType, tmp_path: Path) -> None:
    """Neither the server's word nor the location's is overridden."""
    with images.serve_unix(tmp_path / "s", "nbdkit", "-f", "-r", "memory", "1M") as path:
        with pytest.raises(PermissionDenied):
            open_sink(NbdLocation(address=path, export=Secret("")))
        with pytest.raises(PermissionDenied):
            open_sink(NbdLocation(address=path, export=Secret(""), read_only=True))
        open_source(NbdLocation(address=path, export=Secret(""))).close()


def test_clones_are_connections_of_their_own_where_the_server_allows(
    images: ModuleType, tmp_path: Path
) -> None:
    """With CAN_MULTI_CONN a clone lives on when the first connection is closed."""
    with images.serve_unix(tmp_path / "s", "nbdkit", "-f", "memory", "1M") as path:
        first = sink_at(path)
        with first.clone() as second:
            assert second._client is not first._client
            first.write(0, b"seen")
            first.close()
            assert read(second, 0, 4) == b"seen"


def test_clones_share_one_connection_where_the_server_serves_only_one(
    images: ModuleType, tmp_path: Path
) -> None:
    """A server for one client at a time does not block clones; threads take turns on its connection."""
    image = images.create_raw(tmp_path / "a.raw", 8 * MIB)
    with images.serve_unix(tmp_path / "s", "qemu-nbd", "-f", "raw", image) as path:
        sink = sink_at(path, timeout=20)
        assert not sink._client.export.flags & ExportFlag.CAN_MULTI_CONN
        clones = [sink.clone() for _ in range(4)]
        threads = [
            threading.Thread(target=clone.write, args=(number * 2 * MIB, bytes([number + 1]) * 2 * MIB))
            for number, clone in enumerate(clones)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sink.close()
        sink.close()
        clones[0].close()
        assert read(clones[1], 0, 8 * MIB) == b"".join(bytes([number + 1]) * 2 * MIB for number in range(4))
        for clone in clones:
            clone.close()


def test_a_dead_server_is_unavailable_and_the_outcome_is_told(images: ModuleType, tmp_path: Path) -> None:
    """Nobody listens: not applied. Gone while writing: unknown."""
    with pytest.raises(Unavailable) as nobody:
        source_at(tmp_path / "nothing")
    assert nobody.value.outcome is Outcome.NOT_APPLIED
    with images.serve_unix(tmp_path / "s", "nbdkit", "-f", "memory", "1M") as path:
        sink = sink_at(path)
    with pytest.raises(Unavailable) as gone:
        sink.write(0, b"x")
    assert gone.value.outcome is Outcome.UNKNOWN
    with pytest.raises(Unavailable, match="closed or broken"):
        read(sink, 0, 1)
    sink.close()


def test_a_server_that_hangs_is_given_up_after_the_timeout(images: ModuleType, tmp_path: Path) -> None:
    """A stalled read ends with an error that names the time, not with a stalled archive."""
    command = ("nbdkit", "-f", "--filter=delay", "memory", "1M", "rdelay=30")
    with (
        images.serve_unix(tmp_path / "s", *command) as path,
        source_at(path, timeout=0.5) as source,
        pytest.raises(Unavailable, match=r"did not move for 0\.5 s"),
    ):
        read(source, 0, 512)


def make_certificate(directory: Path) -> None:
    """Write a CA certificate that is the server's certificate at the same time."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(tz=datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    for file in ("ca-cert.pem", "server-cert.pem"):
        (directory / file).write_bytes(pem)
    (directory / "server-key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


def test_tls_is_used_when_asked_for_and_never_half(images: ModuleType, tmp_path: Path) -> None:
    """The right CA works, a wrong one, no TLS, and a server without TLS are refused."""
    make_certificate(tmp_path)
    context = ssl.create_default_context(cafile=tmp_path / "ca-cert.pem")
    tls = ("--tls=require", f"--tls-certificates={tmp_path}")
    data = images.noise(5 * MIB, seed=2)
    with images.serve_tcp("nbdkit", "-f", *tls, "memory", "8M") as address:
        with sink_at(address, tls=context) as sink:
            sink.write(1, data)
            assert read(sink, 1, len(data)) == data
        with pytest.raises(Unavailable, match="TLS failed"):
            source_at(address, tls=ssl.create_default_context())
        with pytest.raises(PermissionDenied, match="wants TLS"):
            source_at(address)
    with images.serve_tcp("nbdkit", "-f", "memory", "8M") as address, pytest.raises(StorageError):
        source_at(address, tls=context)
