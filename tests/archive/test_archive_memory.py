"""Memory and work depend on what a volume holds, not on how large it is."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bollard.core.archive import Archive, CreateOptions, Level, Workers, create
from bollard.core.archive.build import Builder
from bollard.core.archive.lanes import Lane, Lanes
from bollard.core.archive.part import MAX_FRAME, Region
from bollard.core.archive.window import WindowReader
from bollard.core.spi import Call, Extent, ExtentKind

MIB = 1024**2
TIB = 1024**4
GRANULE = 64 * 1024


@pytest.fixture
def lanes(monkeypatch: pytest.MonkeyPatch) -> list[Lanes[Any]]:
    """All lanes that `create` makes, to ask them how much they took."""
    made: list[Lanes[Any]] = []

    class Watched(Lanes[Any]):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(create, "Lanes", Watched)
    return made


def sparse(kit: Any, size: int, places: list[tuple[int, int]]) -> Any:
    """A volume with data in some places, which exists only while it is read; it counts how it is asked."""
    noise = kit.noise(7, 8 * MIB)

    class Sparse(kit.Ram):  # type: ignore[misc,name-defined]  # the kit is loaded at run time
        asked = 0

        def extents(self, offset: int, length: int) -> Iterator[Extent]:
            type(self).asked += 1
            position, end = offset, offset + length
            for start, count in places:
                begin, stop = max(start, position), min(start + count, end)
                if begin < stop:
                    if position < begin:
                        yield Extent(position, begin - position, ExtentKind.HOLE)
                    yield Extent(begin, stop - begin)
                    position = stop
            if position < end:
                yield Extent(position, end - position, ExtentKind.HOLE)

        def read_into(self, offset: int, buffer: memoryview) -> None:
            self.reads.append((offset, len(buffer)))
            shift = offset // GRANULE % 32 * 1024
            buffer[:] = noise[shift : shift + len(buffer)]

    Sparse.size = size
    return Sparse(0)


@pytest.mark.parametrize("compression", ["stored", "zstd"])
def test_a_full_stays_within_its_budget(kit, memory, lanes, compression):
    """However many windows and workers there are, and however dense they are, buffers fit into the budget."""
    budget, size = 20 * MIB, 96 * MIB
    volume = sparse(kit, size, [(0, 64 * MIB), (70 * MIB, MIB)])
    archive = Archive(memory, workers=Workers(count=8, budget=budget))
    options = CreateOptions(window_size=8 * MIB, compression=compression)
    archive.create(volume, Call(), volume="vol-1", snapshot="s0", options=options)
    assert 8 * MIB <= lanes[0].peak <= budget
    assert sum(length for _, length in volume.reads) == 65 * MIB


def test_a_window_that_is_larger_than_the_budget_goes_alone(kit, memory, lanes):
    """A budget that is too small makes it slow and not impossible."""
    volume = sparse(kit, 16 * MIB, [(0, 16 * MIB)])
    archive = Archive(memory, workers=Workers(count=4, budget=MIB))
    options = CreateOptions(window_size=4 * MIB)
    archive.create(volume, Call(), volume="vol-1", snapshot="s0", options=options)
    assert lanes[0].peak == 4 * MIB


def test_reading_takes_frames_and_not_windows(kit, memory):
    """A restore and a verification of windows of 32 MiB hold a few frames of 4 MiB for each of 2 workers."""
    volume = sparse(kit, 64 * MIB, [(0, 64 * MIB)])
    archive = Archive(memory, workers=Workers(count=2))
    archive.create(volume, Call(), volume="vol-1", snapshot="s0", options=CreateOptions(window_size=32 * MIB))

    class Sink(kit.Ram):  # type: ignore[misc,name-defined]  # the kit is loaded at run time
        size = 64 * MIB
        written = 0

        def write(self, offset: int, data: memoryview) -> None:
            shift = offset // GRANULE % 32 * 1024
            assert data[:100] == kit.noise(7, shift + 100)[shift:]
            Sink.written += len(data)

    for read in (
        lambda: archive.restore(Sink(0), Call(), volume="vol-1", snapshot="s0"),
        lambda: archive.verify(Call(), volume="vol-1", snapshot="s0", level=Level.IMAGE),
    ):
        tracemalloc.start()
        read()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 2 * 4 * MAX_FRAME  # one window alone would be 8
    assert Sink.written == 64 * MIB


def test_empty_windows_cost_nothing(kit, memory):
    """Of 1 TiB with three places of data three windows are looked at, in archive, increment and restore."""
    places = [(0, MIB), (TIB // 2, MIB), (TIB - MIB, MIB)]
    volume = sparse(kit, TIB, places)
    archive = Archive(memory)
    archive.create(volume, Call(), volume="vol-1", snapshot="s0")
    assert sum(length for _, length in volume.reads) == 3 * MIB
    assert volume.asked <= 1 + 3
    assert sum(key.endswith(".zip") for key in memory.objects) == 3
    volume.reads.clear()
    memory.calls.clear()
    type(volume).asked = 0
    changed = [Extent(TIB // 2, 1)]
    archive.create(volume, Call(), volume="vol-1", snapshot="s1", parent="s0", changed=changed)
    assert volume.reads == [(TIB // 2, GRANULE)]
    assert volume.asked <= 1  # by the plan, for what a larger volume would have more than its parent
    assert len(memory.calls) < 30


def test_a_window_that_outgrows_its_ranges_is_the_only_one_read_whole(kit, memory, lanes):
    """If most of a window changed, all of it is read, none of the others; and only one buffer is held."""
    volume = kit.Ram(kit.noise(1, 4 * MIB))
    archive = Archive(memory, workers=Workers(count=1))
    archive.create(volume, Call(), volume="vol-1", snapshot="s0", options=CreateOptions(window_size=MIB))
    changed = [Extent(MIB, 10 * GRANULE), Extent(3 * MIB, 1)]
    volume.data[MIB : MIB + 10 * GRANULE] = kit.noise(2, 10 * GRANULE)
    volume.data[3 * MIB] ^= 1
    volume.reads.clear()
    made = archive.create(volume, Call(), volume="vol-1", snapshot="s1", parent="s0", changed=changed)
    assert {offset // MIB for offset, _ in volume.reads} == {1, 3}
    assert sum(length for offset, length in volume.reads if offset >= 3 * MIB) == GRANULE
    assert [len(window.parts) for window in made.windows] == [1, 1, 1, 2]
    assert lanes[1].peak <= MIB


@pytest.mark.parametrize("compression", ["stored", "auto"])
def test_streamed_parts_are_the_same(kit, compression):
    """A part that is built while its window is read has the same bytes as one that is built afterwards."""
    region = Region(0, 12 * MIB + 1000, GRANULE)
    volume = kit.Ram(region.length)
    for start, length in [
        (100, 5000),
        (MIB, 2 * MIB),
        (4 * MIB - 10, 20),
        (5 * MIB, 6 * MIB),
        (12 * MIB, 1000),
    ]:
        volume.data[start : start + length] = (kit.noise(3, 4096) + b"text" * 4096)[:length].ljust(
            length, b"x"
        )
    parts = []
    with ThreadPoolExecutor(1) as pool:
        for streamed in (True, False):
            lane: Lane[Any] = Lane(volume, region.length)
            reader = WindowReader(volume, lane.buffer, region, Call())
            builder = Builder(compression, pool, lane, region)
            if streamed:
                joined = builder.streamed(reader.stream(), reader.hashes)
            else:
                reader.examine(0, region.length)
                joined = builder.at_once(reader.members(range(region.granules), zeros=False), reader.hashes)
            with joined.open() as opened:
                parts.append((joined.sha256, opened.read(), bytes(reader.hashes)))
    assert parts[0] == parts[1]


def test_a_source_that_fails_while_a_part_is_built(kit, memory):
    """The error of the source is what is raised, and nothing was sent."""

    class Broken(kit.Ram):  # type: ignore[misc,name-defined]  # the kit is loaded at run time
        def read_into(self, offset: int, buffer: memoryview) -> None:
            if offset >= 8 * MIB:
                raise OSError("the disk is gone")
            super().read_into(offset, buffer)

    volume = Broken(b"x" * (12 * MIB))
    with pytest.raises(OSError, match="the disk is gone"):
        Archive(memory).create(volume, Call(), volume="vol-1", snapshot="s0")
    assert not [key for key in memory.objects if key.endswith(".zip")]
