"""qcow2 images through a private qemu-nbd."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

from bollard.core.dataplane import open_qcow2_sink, open_qcow2_source, open_sink, open_source
from bollard.core.spi import (
    DataLoss,
    Extent,
    ExtentKind,
    FileLocation,
    InUse,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    StorageError,
    Unsupported,
)

pytestmark = pytest.mark.real

MIB = 1024 * 1024
DATA, ZERO, HOLE = ExtentKind.DATA, ExtentKind.ZERO, ExtentKind.HOLE


def children() -> set[int]:
    """Return the pids of our child processes, dead ones that nobody reaped included."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found


@pytest.fixture(autouse=True)
def _nothing_is_left(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """After every test: no child process, no thread, no descriptor, no temporary file."""
    temporary = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))

    def state() -> tuple[set[int], int, int, list[Path]]:
        descriptors = len(list(Path("/proc/self/fd").iterdir()))
        return children(), threading.active_count(), descriptors, list(temporary.iterdir())

    before = state()
    yield
    assert state() == before


def test_a_written_image_is_what_qemu_reads(images: ModuleType, tmp_path: Path) -> None:
    """What is written through the sink is in the image, with holes where zeros were written."""
    path = images.create_qcow2(tmp_path / "a.qcow2", 16 * MIB)
    data = images.noise(3 * MIB)
    with open_qcow2_sink(path) as sink:
        sink.write(MIB, data)
        sink.write(8 * MIB, bytes(MIB))
        sink.write(12 * MIB, data)
        sink.zero(12 * MIB, 3 * MIB)
        sink.flush()
    images.run("qemu-img", "check", "-q", "-f", "qcow2", path)
    raw = images.to_raw(path, tmp_path / "a.raw")
    assert raw.read_bytes() == bytes(MIB) + data + bytes(12 * MIB)
    assert path.stat().st_blocks * 512 < 5 * MIB


def test_an_image_is_read_as_qemu_wrote_it(images: ModuleType, tmp_path: Path) -> None:
    """Data, allocated zeros and holes are told apart, and bytes are exact."""
    path = images.create_qcow2(tmp_path / "a.qcow2", 4 * MIB)
    images.qemu_io(path, "qcow2", "write -P 0x5a 1M 1M", "write -z 2M 1M")
    with open_qcow2_source(path) as source, source.clone() as other:
        assert source.size == 4 * MIB
        kinds = [
            (extent.offset, extent.length) for extent in source.extents(0, source.size) if extent.kind is DATA
        ]
        assert kinds == [(MIB, MIB)]
        assert next(source.extents(2 * MIB, MIB)).kind in (ZERO, HOLE)
        buffer = bytearray(2 * MIB)
        source.close()
        other.read_into(MIB, memoryview(buffer))
    assert buffer == b"\x5a" * MIB + bytes(MIB)


@pytest.mark.parametrize(
    "name", ["a,b.qcow2", "json:{}", "nbd:unix:x", "-f", "ä ö\n.qcow2", "file.filename=x"]
)
def test_no_file_name_can_talk_to_qemu(
    images: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Commas, protocols and options in a name are just a name."""
    images.create_qcow2(tmp_path / "plain", MIB).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    with open_qcow2_sink(Path(name)) as sink:
        sink.write(0, b"x")


def test_an_image_may_lie_under_a_very_long_path(images: ModuleType, tmp_path: Path) -> None:
    """Nothing depends on the 107 bytes of a unix socket's path."""
    directory = tmp_path / ("d" * 200)
    directory.mkdir()
    open_qcow2_source(images.create_qcow2(directory / "a.qcow2", MIB)).close()


def test_a_source_outlives_the_thread_that_opened_it(images: ModuleType, tmp_path: Path) -> None:
    """The kernel's death signal is bound to a thread: it must not be the caller's."""
    path = images.create_qcow2(tmp_path / "a.qcow2", MIB)
    with ThreadPoolExecutor(1) as pool:
        sink = pool.submit(open_qcow2_sink, path).result()
    with sink:
        sink.write(0, b"x" * MIB)
        sink.flush()


def test_a_second_writer_is_refused(images: ModuleType, tmp_path: Path) -> None:
    """The image is locked from the first sink on, for sources and sinks, and free afterwards."""
    path = images.create_qcow2(tmp_path / "a.qcow2", MIB)
    with open_qcow2_sink(path):
        for opener in (open_qcow2_sink, open_qcow2_source):
            with pytest.raises(InUse) as caught:
                opener(path)
            assert "lock" in caught.value.detail
    open_qcow2_sink(path).close()


def test_a_damaged_image_is_refused_with_qemus_reason(images: ModuleType, tmp_path: Path) -> None:
    """An image that passes the look at its header but not QEMU gives an error that explains."""
    path = images.create_qcow2(tmp_path / "a.qcow2", MIB)
    with path.open("r+b") as file:
        file.seek(36)
        file.write(b"\xff" * 4)  # the number of L1 entries
    with pytest.raises(StorageError) as caught:
        open_qcow2_source(path)
    assert "L1" in caught.value.detail
    images.create_raw(tmp_path / "b.qcow2", MIB)
    with pytest.raises(InvalidArgument):
        open_qcow2_source(tmp_path / "b.qcow2")
    with pytest.raises(NotFound):
        open_qcow2_source(tmp_path / "c.qcow2")


def test_a_damaged_cluster_is_data_loss(images: ModuleType, tmp_path: Path) -> None:
    """An L2 entry that points to nowhere fails the read and is never passed for zeros."""
    path = images.create_qcow2(tmp_path / "a.qcow2", MIB)
    images.qemu_io(path, "qcow2", "write -P 1 0 64k")
    with path.open("r+b") as file:
        file.seek(40)
        file.seek(int.from_bytes(file.read(8), "big"))
        file.seek(int.from_bytes(file.read(8), "big") & 0x00FFFFFFFFFFFE00)
        file.write((0x8000000000000000 | 12345).to_bytes(8, "big"))
    with open_qcow2_source(path) as source, pytest.raises(DataLoss):
        source.read_into(0, memoryview(bytearray(512)))


def test_a_link_is_refused(images: ModuleType, tmp_path: Path) -> None:
    """A link to another tenant's image is not followed."""
    (tmp_path / "link").symlink_to(images.create_qcow2(tmp_path / "a.qcow2", MIB))
    with pytest.raises(InvalidArgument):
        open_qcow2_source(tmp_path / "link")


def test_without_qemu_the_error_says_what_to_install(
    images: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is leaked on the way."""
    path = images.create_qcow2(tmp_path / "a.qcow2", MIB)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unsupported, match="qemu-utils"):
        open_qcow2_source(path)


_OPEN_AND_TELL = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from bollard.core.dataplane import open_qcow2_sink
sink = open_qcow2_sink(Path(sys.argv[1]))
task = Path("/proc/self/task")
print(*[p for t in task.iterdir() for p in (t / "children").read_text().split()], flush=True)
sys.stdin.read()
"""

_DIE_WHILE_IT_STARTS = """
import os, subprocess, sys
from pathlib import Path
import bollard.core.dataplane.qemu_nbd as module
class Fatal(subprocess.Popen):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        print(self.pid, flush=True)
        os.kill(os.getpid(), 9)
module.subprocess.Popen = Fatal
from bollard.core.dataplane import open_qcow2_sink
open_qcow2_sink(Path(sys.argv[1]))
"""

_DIE_BEFORE_IT_COUNTS_US = """
import os, sys
from pathlib import Path
import bollard.core.dataplane.nbd as module
def fatal(wire, *args, **kwargs):
    wire.receive(18, outcome=None)
    tasks = Path("/proc/self/task").iterdir()
    print(*[p for t in tasks for p in (t / "children").read_text().split()], flush=True)
    os.kill(os.getpid(), 9)
module.negotiate = fatal
from bollard.core.dataplane import open_qcow2_sink
open_qcow2_sink(Path(sys.argv[1]))
"""

# What qemu-nbd does with a SIGTERM between its handler and its main loop.
_DIE_BEFORE_IT_HEEDS_SIGTERM = """
import os, signal, sys
from pathlib import Path
import bollard.core.dataplane.qemu_nbd as module
def deaf():
    for task in Path("/proc/self/task").iterdir():
        for pid in (task / "children").read_text().split():
            status = Path("/proc", pid, "status").read_text()
            # Bit 14 of what it ignores: the shell has come so far.
            if int(status.split("SigIgn:")[1].split()[0], 16) >> (signal.SIGTERM - 1) & 1:
                return pid
def connect(self):
    self._thread.start()
    while not (pid := deaf()):
        pass
    print(pid, flush=True)
    os.kill(os.getpid(), 9)
module.program = lambda: sys.argv[2]
module.QemuNbd.connect = connect
from bollard.core.dataplane import open_qcow2_sink
open_qcow2_sink(Path(sys.argv[1]))
"""


@pytest.mark.parametrize(
    "script",
    [_OPEN_AND_TELL, _DIE_WHILE_IT_STARTS, _DIE_BEFORE_IT_COUNTS_US, _DIE_BEFORE_IT_HEEDS_SIGTERM],
    ids=["serving", "starting", "greeting", "deaf"],
)
def test_qemu_nbd_does_not_outlive_a_killed_user(images: ModuleType, tmp_path: Path, script: str) -> None:
    """After kill -9 of the process that opened it, the server ends and the image is free again.

    The scripts die with an open sink, while qemu-nbd starts, and when it has greeted the first client:
    clients that did not finish the handshake do not count for it. The last one dies under a server that
    is deaf to SIGTERM.
    """
    deaf = tmp_path / "deaf"
    deaf.write_text("#!/bin/sh\ntrap '' TERM\nexec sleep 600\n")
    deaf.chmod(0o755)
    path = images.create_qcow2(tmp_path / "a.qcow2", MIB)
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path), str(deaf)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as user:
        assert user.stdout
        server = int(user.stdout.readline())
        try:
            watch = os.pidfd_open(server)
        except ProcessLookupError:
            watch = None  # gone already
        user.send_signal(signal.SIGKILL)
    if watch is not None:
        gone, _, _ = select.select([watch], [], [], 20)
        os.close(watch)
        assert gone, "qemu-nbd lives on"
    open_qcow2_sink(path).close()


def test_locations_open_what_they_say(images: ModuleType, tmp_path: Path) -> None:
    """Format and direction come from the location alone."""
    qcow2 = images.create_qcow2(tmp_path / "a.qcow2", MIB)
    with open_sink(FileLocation(path=qcow2, format="qcow2")) as sink:
        assert sink.size == MIB
    with open_sink(FileLocation(path=qcow2, format="raw")) as sink:
        assert sink.size == qcow2.stat().st_size
    with open_source(FileLocation(path=qcow2, format="qcow2", read_only=True)) as source:
        assert list(source.extents(0, MIB)) == [Extent(0, MIB, HOLE)]
    with pytest.raises(PermissionDenied):
        open_sink(FileLocation(path=qcow2, format="qcow2", read_only=True))
