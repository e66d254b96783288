"""Raw files and block devices."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from bollard.core.dataplane import FileSink, FileSource
from bollard.core.dataplane.os_errors import error_of, os_errors
from bollard.core.spi import (
    Busy,
    DataLoss,
    Extent,
    ExtentKind,
    InvalidArgument,
    NotFound,
    Outcome,
    OutOfCapacity,
    PermissionDenied,
    StorageError,
    Unavailable,
)

MIB = 1024 * 1024
DATA, HOLE = ExtentKind.DATA, ExtentKind.HOLE


@pytest.fixture
def sparse(images: ModuleType, tmp_path: Path) -> Path:
    """4 MiB with one MiB of data at 1 MiB."""
    path: Path = images.create_raw(tmp_path / "a.raw", 4 * MIB)
    with path.open("r+b") as file:
        file.seek(MIB)
        file.write(b"\x5a" * MIB)
    return path


def test_extents_follow_the_file_system(sparse: Path) -> None:
    """Holes of the file are holes of the source."""
    with FileSource.open(sparse) as source:
        assert list(source.extents(0, source.size)) == [
            Extent(0, MIB, HOLE),
            Extent(MIB, MIB, DATA),
            Extent(2 * MIB, 2 * MIB, HOLE),
        ]


def test_extents_cover_exactly_the_range(sparse: Path) -> None:
    """Borders that fall inside of data and holes are kept to the byte."""
    with FileSource.open(sparse) as source:
        assert list(source.extents(MIB + 1, 10)) == [Extent(MIB + 1, 10, DATA)]
        assert list(source.extents(3 * MIB, 7)) == [Extent(3 * MIB, 7, HOLE)]
        assert list(source.extents(4 * MIB, 0)) == []


def test_read_fills_the_buffer(sparse: Path) -> None:
    """Bytes come from the place that was asked for."""
    buffer = bytearray(8)
    with FileSource.open(sparse) as source:
        source.read_into(MIB - 4, memoryview(buffer))
    assert buffer == bytes(4) + b"\x5a" * 4


def test_written_bytes_are_read_by_a_clone(sparse: Path) -> None:
    """Clones see one file, each closes on its own, and a sink can be read."""
    with FileSink.open(sparse) as sink, sink.clone() as other:
        other.write(10, b"hello")
        other.close()
        other.close()
        buffer = bytearray(5)
        sink.read_into(10, memoryview(buffer))
        sink.flush()
    assert buffer == b"hello"


@pytest.mark.parametrize("can_punch", [True, False])
def test_zero_reads_as_zeros_whether_or_not_holes_can_be_punched(sparse: Path, can_punch: bool) -> None:
    """The range is zero, its neighbours and the size stay; punching frees the blocks."""
    before = sparse.stat().st_blocks
    with FileSink.open(sparse) as sink:
        sink._punch = can_punch
        sink.zero(MIB + 4096, MIB - 8192)
        sink.zero(0, 0)
    content = sparse.read_bytes()
    assert content[MIB:][:4096] == content[2 * MIB - 4096 :][:4096] == b"\x5a" * 4096
    assert content.count(0x5A) == 8192
    assert len(content) == 4 * MIB
    assert (sparse.stat().st_blocks < before) is can_punch


@pytest.mark.parametrize(("offset", "length"), [(-1, 2), (4 * MIB, 1), (4 * MIB - 1, 2)])
def test_outside_of_the_file_is_refused(sparse: Path, offset: int, length: int) -> None:
    """Neither reading nor writing nor zeroing changes the size."""
    with FileSink.open(sparse) as sink:
        for act in (
            lambda: sink.read_into(offset, memoryview(bytearray(length))),
            lambda: sink.write(offset, bytes(length)),
            lambda: sink.zero(offset, length),
            lambda: list(sink.extents(offset, length)),
        ):
            with pytest.raises(InvalidArgument):
                act()
    assert sparse.stat().st_size == 4 * MIB


def test_a_file_truncated_behind_our_back_is_data_loss(sparse: Path) -> None:
    """A short read is never padded."""
    with FileSource.open(sparse) as source:
        os.truncate(sparse, MIB + 10)
        with pytest.raises(DataLoss, match="ends at"):
            source.read_into(MIB, memoryview(bytearray(100)))
        assert sum(extent.length for extent in source.extents(0, source.size)) == source.size


def test_links_and_fifos_are_refused(sparse: Path, tmp_path: Path) -> None:
    """A link could point at any file of the host, and a FIFO would block for ever."""
    link, fifo = tmp_path / "link", tmp_path / "fifo"
    link.symlink_to(sparse)
    os.mkfifo(fifo)
    for path in (link, fifo, tmp_path):
        with pytest.raises(InvalidArgument):
            FileSource.open(path)
    with pytest.raises(NotFound):
        FileSource.open(tmp_path / "missing")


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, OutOfCapacity),
        (errno.EDQUOT, OutOfCapacity),
        (errno.EROFS, PermissionDenied),
        (errno.EIO, DataLoss),
        (errno.EAGAIN, Busy),
        (errno.ESTALE, Unavailable),
    ],
)
def test_kernel_errors_keep_what_is_known(number: int, expected: type[StorageError]) -> None:
    """The class says what happened, the outcome what the caller may assume."""
    error = error_of(number, "cannot write", outcome=Outcome.UNKNOWN)
    assert type(error) is expected
    assert error.outcome is Outcome.UNKNOWN
    assert errno.errorcode[number] in str(error)
    with pytest.raises(expected), os_errors("cannot write"):
        raise OSError(number, "made up")


@pytest.mark.real(root=True)
def test_a_block_device_is_a_source_and_a_sink(images: ModuleType, tmp_path: Path) -> None:
    """Size comes from the device, writes arrive, and zeroed ranges read as zeros."""
    backing = images.create_raw(tmp_path / "disk.raw", 2 * MIB)
    device = Path(images.run("losetup", "--find", "--show", backing).strip())
    try:
        data = images.noise(MIB)
        with FileSink.open(device) as sink:
            assert sink.size == 2 * MIB
            sink.write(512, data)
            sink.zero(512, 4096)
            sink.flush()
            assert sum(extent.length for extent in sink.extents(0, 2 * MIB)) == 2 * MIB
        with FileSource.open(device) as source:
            buffer = bytearray(MIB)
            source.read_into(512, memoryview(buffer))
        assert buffer == bytes(4096) + data[4096:]
    finally:
        subprocess.run(["losetup", "--detach", device], check=True, timeout=30)
