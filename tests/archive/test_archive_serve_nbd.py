"""An archived snapshot over NBD, read and written by the clients that people use."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from bollard.core.archive import Archive, ArchiveSource, CreateOptions, ReadOptions
from bollard.core.archive_serve import Overlay, SnapshotServer, listen, uri_of
from bollard.core.spi import Call, Conflict, InUse, InvalidArgument, NotFound

pytestmark = pytest.mark.real

MIB = 1024**2
NAME = "v/s@digest"


@pytest.fixture(scope="module")
def disk(kit: Any) -> Any:
    """A volume of 32 MiB and a bit with 3 MiB of data, and the objects of its archive."""
    volume, store = kit.Ram(32 * MIB + 512), kit.MemoryStore()
    for offset in (0, 9 * MIB + 4096, 31 * MIB):
        volume.data[offset : offset + MIB] = kit.noise(offset, MIB)
    options = CreateOptions(window_size=8 * MIB, compression="deflate")
    Archive(store).create(volume, Call(), volume="v", snapshot="s", options=options)
    return volume, store


@pytest.fixture
def source(disk: Any) -> Iterator[ArchiveSource]:
    """The snapshot, opened."""
    store = disk[1]
    store.calm()
    before = dict(store.objects)
    with Archive(store).open(Call(), volume="v", snapshot="s", options=ReadOptions(workers=4)) as opened:
        yield opened
    assert store.objects == before  # whatever a test does, the archive stays as it was


@pytest.fixture
def uri(source: ArchiveSource, tmp_path: Path) -> Iterator[str]:
    """A read-only server on a Unix socket."""
    path = tmp_path / "nbd.sock"
    with SnapshotServer(source, listen(path)):
        yield uri_of(path)


def run(*command: object, status: int = 0) -> str:
    """The output of a tool that ends with the status."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def test_nbdinfo_sees_a_read_only_sparse_export(uri: str):
    """The export says that it is read-only, takes several connections, and where its holes are."""
    [export] = json.loads(run("nbdinfo", "--json", uri))["exports"]
    assert (export["export-size"], export["is_read_only"], export["can_multi_conn"]) == (
        32 * MIB + 512,
        True,
        True,
    )
    extents = json.loads(run("nbdinfo", "--map", "--json", uri))
    data = [(e["offset"], e["length"]) for e in extents if e["type"] == 0]
    assert data == [(0, MIB), (9 * MIB, MIB + 65536), (31 * MIB, MIB)]


def test_nbdcopy_and_qemu_img_copy_it_sparse(disk: Any, uri: str, tmp_path: Path):
    """Both copy the image byte by byte over their ways of asking, and holes stay holes."""
    for name, command in [
        ("nbdcopy", ["nbdcopy", "--connections=4", "--request-size=65536", uri]),
        ("convert", ["qemu-img", "convert", "-f", "raw", "-O", "raw", uri]),
    ]:
        target = tmp_path / name
        run(*command, target)
        assert target.read_bytes() == disk[0].data
        assert target.stat().st_blocks * 512 < 5 * MIB


def test_writes_are_refused(uri: str):
    """A client that wants to write is told so, and nothing is written."""
    run("qemu-io", "-f", "raw", "-c", "write 0 4k", uri, status=1)


def test_damage_and_a_dead_store_are_eio(disk: Any, source: ArchiveSource, uri: str):
    """What cannot be read right is an I/O error for the client; what else it reads is right."""
    store = disk[1]

    def broken(when: str, method: str, key: str) -> None:
        if "0000000000800000." in key:
            raise InvalidArgument("made up")

    store.hook = broken
    said = subprocess.run(
        ["qemu-io", "-r", "-f", "raw", "-c", "read 9M 4k", "-c", "read 31M 4k", uri],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "read failed: Input/output error" in said.stdout
    assert "read 4096/4096 bytes at offset 32505856" in said.stdout


def test_closing_does_not_wait_for_a_store_that_hangs(disk: Any, source: ArchiveSource, tmp_path: Path):
    """A server ends although a read of its client hangs in the store."""
    store, hangs, go_on = disk[1], threading.Event(), threading.Event()

    def hang(*_: str) -> None:
        hangs.set()
        go_on.wait()

    store.hook = hang
    server = SnapshotServer(source, listen(tmp_path / "nbd.sock"))
    reader = subprocess.Popen(
        ["qemu-io", "-r", "-f", "raw", "-c", "read 0 4k", uri_of(tmp_path / "nbd.sock")],
        stdout=subprocess.PIPE,
    )
    assert hangs.wait(60)
    server.close()
    go_on.set()
    assert b"4096/4096" not in reader.communicate(timeout=60)[0]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_tcp(source: ArchiveSource, host: str):
    """A port serves as well, of either family; 0 takes a free one."""
    listener = listen((host, 0))
    uri = uri_of(listener.getsockname()[:2])
    with SnapshotServer(source, listener):
        assert run("nbdinfo", "--size", uri).strip() == str(32 * MIB + 512)
        run("nbdinfo", "--size", f"{uri}/other", status=1)


def test_where_to_listen(tmp_path: Path):
    """A dead server's socket is replaced; a living one's, a file and a long path are refused."""
    path = tmp_path / "nbd.sock"
    listen(path).close()
    with listen(path), pytest.raises(InUse):
        listen(path)
    (tmp_path / "file").write_text("precious")
    with pytest.raises(InvalidArgument, match="no socket"):
        listen(tmp_path / "file")
    with pytest.raises(InvalidArgument, match="107 bytes"):
        listen(tmp_path / ("x" * 200))
    assert uri_of(Path("/run/a b?.sock")) == "nbd+unix:///?socket=/run/a%20b%3F.sock"


@pytest.fixture
def overlay(disk: Any, tmp_path: Path) -> Iterator[Callable[..., Overlay]]:
    """Serve a writable overlay on a Unix socket; afterwards the archive is as it was."""
    store = disk[1]
    store.calm()
    before = dict(store.objects)
    with ExitStack() as stack:

        def serve(directory: Path = tmp_path, name: str = NAME, **more: Any) -> Overlay:
            path = directory / "nbd.sock"
            path.unlink(missing_ok=True)
            source = stack.enter_context(Archive(store).open(Call(), volume="v", snapshot="s"))
            return Overlay(source, directory / "over.qcow2", name, listen(path), path, timeout=60, **more)

        yield serve
    assert store.objects == before


def test_overlay_keeps_what_was_written(disk: Any, overlay: Any, tmp_path: Path):
    """Writes go to the file and are there with the next server; all else comes from the archive."""
    expected, uri = bytearray(disk[0].data), uri_of(tmp_path / "nbd.sock")
    with overlay():
        run("qemu-io", "-f", "raw", "-c", "write -P 7 9M 100k", "-c", "write -z 31M 64k", "-c", "flush", uri)
    expected[9 * MIB : 9 * MIB + 100 * 1024] = b"\7" * 100 * 1024
    expected[31 * MIB : 31 * MIB + 65536] = bytes(65536)
    for more in ({}, {"read_only": True}):
        with overlay(**more):
            target = tmp_path / f"copy-{len(more)}"
            run("nbdcopy", "--connections=2", uri, target)
            assert target.read_bytes() == expected
            run("qemu-io", "-f", "raw", "-c", "write 0 512", uri, status=1 if more else 0)
            expected[:512] = b"\xcd" * 512
    assert [path.name for path in tmp_path.glob("over*")] == ["over.qcow2"]
    assert (tmp_path / "over.qcow2").stat().st_size < 2 * MIB


def test_overlay_of_another_snapshot_is_refused(overlay: Any, tmp_path: Path):
    """An overlay is never put over another snapshot, nor over a file that is none; both stay as they are."""
    with overlay():
        pass
    before = (tmp_path / "over.qcow2").read_bytes()
    with pytest.raises(Conflict, match=NAME):
        overlay(name="v/other@digest")
    assert (tmp_path / "over.qcow2").read_bytes() == before
    (tmp_path / "over.qcow2").write_bytes(bytes(MIB))
    with pytest.raises(InvalidArgument, match="not a qcow2 image"):
        overlay()
    (tmp_path / "over.qcow2").unlink()
    with pytest.raises(NotFound):
        overlay(read_only=True)


def test_overlay_in_use_is_refused(overlay: Any, tmp_path: Path):
    """Two servers cannot have one overlay: the second says that it is in use, the first goes on."""
    (tmp_path / "second").mkdir()
    with overlay():
        (tmp_path / "second" / "over.qcow2").hardlink_to(tmp_path / "over.qcow2")
        with pytest.raises(InUse):
            overlay(tmp_path / "second")
        run("nbdinfo", uri_of(tmp_path / "nbd.sock"))


def test_overlay_tells_when_its_server_dies(overlay: Any, tmp_path: Path):
    """Whoever waits hears that the daemon ended by itself; what had been flushed is in the file."""
    ended, uri = threading.Event(), uri_of(tmp_path / "nbd.sock")
    with ExitStack() as stack:
        served = stack.enter_context(overlay(ended=ended.set))
        run("qemu-io", "-f", "raw", "-c", "write -P 9 1M 4k", "-c", "flush", uri)
        os.kill(served.pid, signal.SIGKILL)
        assert ended.wait(60)
    with overlay():
        run("qemu-io", "-f", "raw", "-c", "read -P 9 1M 4k", uri)
