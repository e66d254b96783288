"""Copying and comparing whole volumes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count, pairwise
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bollard.core.dataplane import CopyStats, FileSink, FileSource, compare, copy, open_sink, open_source
from bollard.core.dataplane.compare import first_difference
from bollard.core.spi import (
    DataLoss,
    DeadlineExceeded,
    FileLocation,
    InvalidArgument,
    Location,
    NbdLocation,
    OutOfCapacity,
)
from bollard.transfer_objects.secret import Secret

MIB = 1024 * 1024
K64 = 65536

blocks = st.lists(st.sampled_from([b"\0", b"\0", b"a", b"b"]), max_size=12).map(
    lambda letters: b"".join(letter * K64 for letter in letters)
)


def write(path: Path, content: bytes) -> Path:
    """Write a file that has holes where its 64 KiB blocks are zero."""
    with path.open("wb") as file:
        file.truncate(len(content))
        for start in range(0, len(content), K64):
            block = content[start : start + K64]
            if any(block):
                file.seek(start)
                file.write(block)
    return path


@settings(max_examples=40)  # each writes files and starts threads
@given(blocks, blocks, st.integers(0, 3), st.integers(1, 3))
def test_copy_makes_the_sink_equal_whatever_it_held(
    tmp_path_factory: pytest.TempPathFactory, new: bytes, old: bytes, more: int, workers: int
) -> None:
    """Old data vanishes, what lies behind a larger sink reads as zeros, and the figures add up."""
    directory = tmp_path_factory.mktemp("copy")
    size = len(new) + more * 4096
    source, sink = write(directory / "new", new), write(directory / "old", old.ljust(size, b"z")[:size])
    with FileSource.open(source) as reader, FileSink.open(sink) as writer:
        stats = copy(reader, writer, workers=workers)
        assert compare(reader, writer) is None
    assert sink.read_bytes() == new.ljust(size, b"\0")
    assert (stats.written, stats.zeroed) == (len(new.replace(b"\0", b"")), size - stats.written)
    assert stats.skipped == 0


@settings(max_examples=40)
@given(blocks, blocks, st.integers(1, 3))
def test_compare_finds_the_first_difference(
    tmp_path_factory: pytest.TempPathFactory, a: bytes, b: bytes, workers: int
) -> None:
    """The smaller volume counts as zeros behind its end."""
    directory = tmp_path_factory.mktemp("compare")
    size = max(len(a), len(b))
    padded = a.ljust(size, b"\0"), b.ljust(size, b"\0")
    starts = range(0, size, K64)
    expected = next((at for at in starts if padded[0][at : at + K64] != padded[1][at : at + K64]), None)
    with (
        FileSource.open(write(directory / "a", a)) as left,
        FileSource.open(write(directory / "b", b)) as right,
    ):
        assert compare(left, right, workers=workers) == compare(right, left) == expected


@given(st.integers(0, 200_000), st.integers(0, 200_000))
def test_first_difference_is_exact(length: int, at: int) -> None:
    """One flipped byte is found where it is."""
    a = bytearray(length)
    b = bytearray(a)
    if at < length:
        b[at] = 1
    assert first_difference(memoryview(a), memoryview(b)) == (at if at < length else None)


def test_a_fresh_sink_stays_sparse(tmp_path: Path) -> None:
    """Zeros are not written to a sink that is known to be empty, not even those stored as data."""
    source = tmp_path / "source"
    source.write_bytes(bytes(8 * MIB) + b"x" * MIB)
    sink = write(tmp_path / "sink", bytes(10 * MIB))
    with FileSource.open(source) as reader, FileSink.open(sink) as writer:
        stats = copy(reader, writer, sink_is_zero=True)
    assert stats == CopyStats(written=MIB, zeroed=0, skipped=9 * MIB)
    assert sink.stat().st_blocks * 512 <= MIB + 4096


def test_a_smaller_sink_is_refused(tmp_path: Path) -> None:
    """Nothing is written then."""
    small = write(tmp_path / "small", b"s" * K64)
    large = write(tmp_path / "large", b"l" * 2 * K64)
    with FileSource.open(large) as reader, FileSink.open(small) as writer, pytest.raises(InvalidArgument):
        copy(reader, writer)
    assert small.read_bytes() == b"s" * K64


@pytest.mark.parametrize("work", [copy, compare])
def test_progress_rises_to_the_total(tmp_path: Path, work: Callable[..., object]) -> None:
    """Bytes are counted once each, holes too."""
    source = write(tmp_path / "a", b"a" * 18 * MIB + bytes(8 * MIB))
    sink = write(
        tmp_path / "b", bytes(30 * MIB) if work is copy else source.read_bytes().ljust(30 * MIB, b"\0")
    )
    seen: list[tuple[int, int]] = []
    with FileSource.open(source) as reader, FileSink.open(sink) as writer:
        work(reader, writer, progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (30 * MIB, 30 * MIB)


def test_cancelling_stops_at_the_next_piece(tmp_path: Path) -> None:
    """The copy ends early with an error, and its threads with it."""
    source = write(tmp_path / "a", b"a" * 48 * MIB)
    sink = write(tmp_path / "b", bytes(48 * MIB))
    asked = count()
    before = threading.active_count()
    with FileSource.open(source) as reader, FileSink.open(sink) as writer, pytest.raises(DeadlineExceeded):
        copy(reader, writer, workers=1, cancelled=lambda: next(asked) >= 2)
    assert sink.read_bytes().count(b"a") == 32 * MIB
    assert threading.active_count() == before


@pytest.mark.real
@pytest.mark.parametrize(("call", "expected"), [("pread", DataLoss), ("pwrite", OutOfCapacity)])
def test_an_error_of_either_side_ends_the_copy(
    images: ModuleType, tmp_path: Path, call: str, expected: type[Exception]
) -> None:
    """The first error comes out, whatever the other workers do."""
    answer = {"pread": "EIO", "pwrite": "ENOSPC"}[call]
    broken = ("--filter=error", f"error-{call}={answer}", f"error-{call}-rate=100%")
    good, bad = tmp_path / "good", tmp_path / "bad"
    with (
        images.serve_unix(good, "nbdkit", "-f", "pattern", "48M", "--filter=cow"),
        images.serve_unix(bad, "nbdkit", "-f", broken[0], "--filter=cow", "pattern", "48M", *broken[1:]),
    ):
        places = {path: NbdLocation(address=path, export=Secret("")) for path in (good, bad)}
        source, sink = (places[bad], places[good]) if call == "pread" else (places[good], places[bad])
        with open_source(source) as reader, open_sink(sink) as writer, pytest.raises(expected):
            copy(reader, writer)


@pytest.mark.real
def test_a_file_system_survives_a_trip_through_every_kind_of_volume(
    images: ModuleType, tmp_path: Path
) -> None:
    """ext4 in qcow2 -> NBD over TCP -> raw -> qcow2: equal blocks, equal files, still sparse."""
    tree = images.file_tree(tmp_path / "tree")
    first = images.ext4_qcow2(tmp_path / "a.qcow2", tree)
    raw = images.create_raw(tmp_path / "b.raw", 64 * MIB)
    last = images.create_qcow2(tmp_path / "c.qcow2", 64 * MIB)
    with images.serve_tcp("nbdkit", "-f", "memory", "64M") as address:
        stations: list[Location] = [
            FileLocation(path=first, format="qcow2"),
            NbdLocation(address=address, export=Secret(""), size=64 * MIB),
            FileLocation(path=raw, format="raw"),
            FileLocation(path=last, format="qcow2"),
        ]
        for origin, target in pairwise(stations):
            with open_source(origin) as source:
                with open_sink(target) as sink:
                    copy(source, sink, sink_is_zero=True)
                with open_source(target) as copied:
                    assert compare(source, copied) is None
    assert images.same(first, "qcow2", last, "qcow2")
    assert images.same(first, "qcow2", raw, "raw")
    assert images.ext4_digests(raw, tmp_path / "files") == images.digests(tree)
    assert last.stat().st_blocks * 512 < 8 * MIB


@pytest.mark.real
def test_an_xfs_image_keeps_its_holes(images: ModuleType, tmp_path: Path) -> None:
    """XFS in a raw file of 320 MiB stays a few MiB in qcow2, with equal blocks."""
    raw = images.xfs_raw(tmp_path / "a.raw", images.file_tree(tmp_path / "tree"))
    target = images.create_qcow2(tmp_path / "b.qcow2", raw.stat().st_size)
    with (
        open_source(FileLocation(path=raw, format="raw")) as source,
        open_sink(FileLocation(path=target, format="qcow2")) as sink,
    ):
        stats = copy(source, sink, sink_is_zero=True)
    assert images.same(raw, "raw", target, "qcow2")
    assert stats.skipped > 300 * MIB
