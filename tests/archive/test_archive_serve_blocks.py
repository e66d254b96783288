"""An archived snapshot as a block source: right bytes from any place, few requests, errors and never lies."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bollard.core.archive import Archive, ArchiveSource, CreateOptions, ReadOptions
from bollard.core.snapshots.ranges import copy_range
from bollard.core.spi import Call, DataLoss, DeadlineExceeded, ExtentKind, InvalidArgument, Unavailable
from bollard.transfer_objects.ids import SnapshotId, VolumeId

MIB = 1024**2
SIZE = 10_000  # bytes: the last window and the last granule are short

changes = st.tuples(
    st.integers(0, SIZE - 1),
    st.integers(1, 3000),
    st.integers(0, 3),  # at, how many, seed; 0: zeros
)


def apply(kit: Any, volume: Any, change: tuple[int, int, int]) -> None:
    """Write noise, or zeros."""
    at, count, seed = change
    count = min(count, volume.size - at)
    volume.data[at : at + count] = kit.noise(seed, count) if seed else bytes(count)


def read(source: ArchiveSource, offset: int, length: int) -> bytes:
    """Return what the source has there; what it leaves out would show as 0xee."""
    buffer = bytearray(b"\xee" * length)
    source.read_into(offset, memoryview(buffer))
    return bytes(buffer)


@settings(max_examples=60)
@given(
    history=st.lists(st.lists(changes, max_size=4), min_size=1, max_size=10),
    reads=st.lists(st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)), min_size=1, max_size=8),
    deflate=st.booleans(),
    cache=st.sampled_from([0, 2048, MIB]),
)
def test_reads_what_the_volume_was(kit, history, reads, deflate, cache):
    """Any range of any snapshot of any chain of increments reads as the volume was, whatever is cached."""
    archive, volume = Archive(kit.MemoryStore()), kit.Ram(SIZE, cell=512)
    options = CreateOptions(window_size=2048, granule=512, compression="deflate" if deflate else "stored")
    for number, step in enumerate(history):
        for change in step:
            apply(kit, volume, change)
        parent = f"s{number - 1}" if number else None
        archive.create(volume, Call(), volume="v", snapshot=f"s{number}", parent=parent, options=options)
    with archive.open(
        Call(), volume="v", snapshot=f"s{number}", options=ReadOptions(cache=cache, workers=2)
    ) as source:
        for offset, length in reads:
            offset = min(offset, SIZE - 1)
            length = min(length, SIZE - offset)
            assert read(source, offset, length) == volume.data[offset : offset + length]
        extents = list(source.extents(0, SIZE))
    assert [e.offset for e in extents] == [0, *(e.end for e in extents[:-1])]
    assert extents[-1].end == SIZE
    for extent in extents:
        content = volume.data[extent.offset : extent.end]
        assert (extent.kind is ExtentKind.DATA) or not any(content)
        assert extent.kind is not ExtentKind.HOLE or not any(content)


@pytest.fixture(scope="module")
def archived(kit: Any) -> Any:
    """A volume of 32 MiB with data in the first 12, archived as v/s in windows of 8 MiB."""
    volume, store = kit.Ram(32 * MIB, cell=MIB), kit.MemoryStore()
    volume.data[: 12 * MIB] = kit.noise(1, 12 * MIB)
    options = CreateOptions(window_size=8 * MIB)
    Archive(store).create(volume, Call(), volume="v", snapshot="s", options=options)
    return volume, store.objects


@pytest.fixture
def disk(memory: Any, archived: Any) -> Any:
    """That volume; its archive is in `memory`."""
    volume, objects = archived
    memory.objects = dict(objects)
    return volume


@pytest.fixture
def source(memory: Any, disk: Any) -> Iterator[ArchiveSource]:
    """The snapshot, opened."""
    with Archive(memory).open(Call(), volume="v", snapshot="s") as opened:
        memory.calls.clear()
        yield opened


def test_a_small_read_fetches_one_frame(memory, disk, source):
    """4 KiB in the middle cost the end of one part and one frame; the next 4 KiB there cost nothing."""
    assert read(source, 5 * MIB, 4096) == disk.data[5 * MIB : 5 * MIB + 4096]
    assert len(memory.calls) <= 3  # the end of the part in one piece or two, and the frame
    before = len(memory.calls)
    assert read(source, 5 * MIB + 8192, 4096) == disk.data[5 * MIB + 8192 : 5 * MIB + 12288]
    assert len(memory.calls) == before


def test_extents_need_no_data(memory, disk, source):
    """Data and holes are known from the ends of the parts; a window without parts needs no request."""
    assert [(e.offset, e.length, e.kind) for e in source.extents(0, disk.size)] == [
        (0, 12 * MIB, ExtentKind.DATA),
        (12 * MIB, 20 * MIB, ExtentKind.HOLE),
    ]
    assert len(memory.calls) <= 2 * 2
    before = len(memory.calls)
    assert read(source, 20 * MIB, MIB) == bytes(MIB)
    assert len(memory.calls) == before


def test_sequential_reads_are_ahead(memory, disk, source):
    """Who reads on from the start finds the next frames asked for; nothing is fetched twice."""
    step = MIB // 2
    for offset in range(0, 12 * MIB, step):
        assert read(source, offset, step) == disk.data[offset : offset + step]
    frames = 12 // 4
    assert len(memory.calls) <= frames + 2 * 2


def test_clones_share_what_was_fetched(memory, disk, source):
    """Many readers at once of the same place cost one request for it, and close in any order."""
    with source.clone() as other:
        expected = bytes(disk.data[512 : 512 + MIB])
        found: list[bytes] = []
        threads = [
            threading.Thread(target=lambda s=s: found.append(read(s, 512, MIB))) for s in (source, other) * 4
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [expected] * 8
    assert len(memory.calls) <= 3  # one frame, and the end of its part in one piece or two
    assert read(source, 10 * MIB, 512) == disk.data[10 * MIB : 10 * MIB + 512]


def test_a_range_is_all_that_is_fetched(kit, memory, disk):
    """Copying 1 MiB of 32 fetches the frames that hold it, and the ends of their part; nothing ahead."""
    sink = kit.Ram(b"\xee" * MIB)
    memory.calls.clear()
    archive = Archive(memory)
    copy_range(archive, VolumeId("v"), SnapshotId("s"), sink, Call(), offset=3 * MIB + 512 * 1024, length=MIB)
    assert sink.data == disk.data[3 * MIB + 512 * 1024 :][:MIB]
    assert len(memory.calls) <= 1 + 2 + 2  # the manifest, the part's end, two frames of 4 MiB


def test_a_range_outside_is_refused(source):
    """A read over the end is an error before anything is fetched."""
    with pytest.raises(InvalidArgument, match="outside"):
        read(source, 32 * MIB - 1, 2)


def test_each_kind_of_store(kit, store):
    """A chain on each kind of store reads right at any place, and its holes are known."""
    volume = kit.Ram(kit.noise(4, 300_000) + bytes(700_000))
    options = CreateOptions(window_size=256 * 1024, compression="auto")
    Archive(store).create(volume, Call(), volume="v", snapshot="s0", options=options)
    volume.data[100_000:100_400] = bytes(400)
    Archive(store).create(volume, Call(), volume="v", snapshot="s1", parent="s0")
    with Archive(store).open(Call(), volume="v", snapshot="s1") as source:
        for offset, length in [
            (0, 10),
            (99_999, 600),
            (262_000, 1000),
            (299_999, 2),
            (999_999, 1),
            (0, 10**6),
        ]:
            assert read(source, offset, length) == volume.data[offset : offset + length]
        assert list(source.extents(0, 10**6))[-1].kind is ExtentKind.HOLE
    for name in ("s1", "s0"):
        Archive(store, pause=lambda _: None).delete(Call(), volume="v", snapshot=name, known=[])


def part_keys(memory: Any) -> list[str]:
    """The parts in the store, by window."""
    return sorted(key for key in memory.objects if key.endswith(".zip"))


@pytest.mark.parametrize("at", [100, 200_000, 7 * MIB])
def test_a_flipped_bit_is_an_error(kit, memory, disk, at):
    """A damaged frame is DataLoss that names the part, each time; other frames read as they were."""
    key = part_keys(memory)[0]
    bad = bytearray(memory.objects[key])
    bad[at] ^= 1
    memory.objects[key] = bytes(bad)
    with Archive(memory).open(Call(), volume="v", snapshot="s") as source:
        for _ in range(2):
            with pytest.raises(DataLoss, match=key):
                read(source, at // (4 * MIB) * 4 * MIB, 512)
        assert read(source, 9 * MIB, 512) == disk.data[9 * MIB : 9 * MIB + 512]


@settings(max_examples=150)
@given(data=st.data())
def test_no_damage_gives_wrong_bytes(kit, data):
    """Flip, cut or remove anything of a part: each read is right or an error of the archive's."""
    store, volume = kit.MemoryStore(), kit.Ram(kit.noise(5, 4096) + bytes(4096), cell=512)
    archive = Archive(store)
    compression = data.draw(st.sampled_from(["stored", "deflate"]))
    options = CreateOptions(window_size=4096, granule=512, compression=compression)
    archive.create(volume, Call(), volume="v", snapshot="s0", options=options)
    volume.data[512:600] = bytes(88)
    volume.data[5000:5100] = b"x" * 100
    archive.create(volume, Call(), volume="v", snapshot="s1", parent="s0", options=options)
    key = data.draw(st.sampled_from(part_keys(store)))
    bad = bytearray(store.objects[key])
    position = data.draw(st.integers(0, len(bad) - 1))
    if data.draw(st.booleans()):
        bad[position] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del bad[position:]
    store.objects[key] = bytes(bad)
    with archive.open(Call(), volume="v", snapshot="s1", options=ReadOptions(workers=1)) as source:
        for offset in range(0, 8192, 512):
            try:
                assert read(source, offset, 512) == volume.data[offset : offset + 512]
            except DataLoss as error:
                assert key in str(error)  # noqa: PT017 - an error is allowed, not required


def test_a_missing_part_is_data_loss(memory, disk):
    """A part that is gone is named."""
    key = part_keys(memory)[1]
    del memory.objects[key]
    with (
        Archive(memory).open(Call(), volume="v", snapshot="s") as source,
        pytest.raises(DataLoss, match=f"{key} is missing"),
    ):
        read(source, 8 * MIB, 512)


def test_a_store_that_hangs_fails_the_read(memory, disk):
    """A read ends with DeadlineExceeded although the store never answers, and works when it does again."""
    go_on = threading.Event()
    with Archive(memory).open(Call(), volume="v", snapshot="s", options=ReadOptions(timeout=0.05)) as source:
        memory.hook = lambda *_: go_on.wait() and None
        with pytest.raises(DeadlineExceeded):
            read(source, 0, 512)
        go_on.set()
    with Archive(memory).open(Call(), volume="v", snapshot="s") as source:
        assert read(source, 0, 512) == disk.data[:512]


def test_a_failure_is_not_kept(memory, disk, source):
    """What could not be fetched is asked for again by the next read."""

    def refuse(when: str, method: str, key: str) -> None:
        if key.endswith(".zip"):
            raise Unavailable("the store restarts")

    memory.hook = refuse
    with pytest.raises(Unavailable):
        read(source, 0, 512)
    memory.calm()
    assert read(source, 0, 512) == disk.data[:512]
