"""What goes into the archive comes out of it, byte for byte."""

from __future__ import annotations

import mmap
import tracemalloc
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bollard.core.archive import Archive, CreateOptions, Level, Workers
from bollard.core.archive.lanes import Lanes
from bollard.core.spi import (
    Call,
    Conflict,
    DeadlineExceeded,
    Extent,
    InvalidArgument,
    NotFound,
    Page,
    StoredObject,
    Unavailable,
)

GRANULE = 64 * 1024
MIB = 1024**2
OPTIONS = CreateOptions(window_size=MIB)


def random_volume(kit: Any, size: int, seed: int = 0) -> Any:
    """A volume with data in some places and holes elsewhere."""
    volume = kit.Ram(size)
    for number in range(20):
        start = int.from_bytes(kit.noise(seed + number, 4), "big") % (size - 5000)
        volume.data[start : start + 5000] = kit.noise(seed + number, 5000)
    return volume


def restored(kit: Any, archive: Archive, snapshot: str, size: int) -> bytearray:
    """What a restore writes over a sink full of other bytes."""
    sink = kit.Ram(b"\xee" * size)
    archive.restore(sink, Call(), volume="vol-1", snapshot=snapshot)
    assert sink.flushed == 1
    return sink.data


def test_full_and_increments(kit, store):
    """A full and two increments restore to what the volume was, and go away, on each kind of store."""
    archive, volume, contents = Archive(store, pause=lambda _: None), random_volume(kit, 5 * MIB + 777), {}
    for number in range(3):
        name = f"s{number}"
        contents[name] = bytes(volume.data)
        archive.create(
            volume,
            Call(),
            volume="vol-1",
            snapshot=name,
            parent=f"s{number - 1}" if number else None,
            options=OPTIONS if number == 0 else CreateOptions(),
        )
        volume.data[number * MIB : number * MIB + 70_000] = kit.noise(number, 70_000)
        volume.data[4 * MIB : 4 * MIB + GRANULE] = bytes(GRANULE)
    for name, content in contents.items():
        assert restored(kit, archive, name, len(content)) == content
        assert archive.verify(Call(), volume="vol-1", snapshot=name, level=Level.IMAGE).ok
    assert volume.open_clones == [0]
    for name in contents:
        archive.delete(Call(), volume="vol-1", snapshot=name, known=list(contents))
    later = Archive(store, clock=lambda: 10**10, pause=lambda _: None)
    later.collect(Call(), volume="vol-1", known=[])
    assert list(store.list("v1/", Call()).items) == []


def test_increment_stores_only_what_differs(kit, memory):
    """One changed byte costs one granule of 64 KiB and not a window."""
    archive, volume = Archive(memory), random_volume(kit, 8 * MIB)
    volume.data[: 2 * MIB] = kit.noise(1, 2 * MIB)
    archive.create(volume, Call(), volume="vol-1", snapshot="s0", options=OPTIONS)
    volume.data[MIB + 5] ^= 1
    memory.sent = 0
    manifest = archive.create(volume, Call(), volume="vol-1", snapshot="s1", parent="s0")
    assert memory.sent < GRANULE + 16 * 1024
    assert [len(window.parts) for window in manifest.windows if window.offset == MIB] == [2]


def test_changed_blocks_are_all_that_is_read(kit, memory):
    """With changed blocks only these granules are read, and the result is the same as by comparing."""
    archive, volume = Archive(memory), random_volume(kit, 8 * MIB)
    volume.data[: 4 * MIB] = kit.noise(1, 4 * MIB)
    archive.create(volume, Call(), volume="vol-1", snapshot="s0", options=OPTIONS)
    volume.data[MIB + 5] ^= 1
    volume.data[3 * MIB : 3 * MIB + GRANULE] = bytes(GRANULE)
    by_hash = archive.create(volume, Call(), volume="vol-1", snapshot="s1", parent="s0")
    volume.reads.clear()
    changed = [Extent(MIB + 5, 1), Extent(3 * MIB, GRANULE), Extent(6 * MIB, 10)]
    by_list = archive.create(volume, Call(), volume="vol-1", snapshot="s2", parent="s0", changed=changed)
    assert by_list.digest == by_hash.digest
    assert {offset for offset, _ in volume.reads} <= {MIB, 3 * MIB, 6 * MIB}
    assert sum(length for _, length in volume.reads) <= 3 * GRANULE
    assert restored(kit, archive, "s2", volume.size) == volume.data


def test_layers_are_limited(kit, memory, small):
    """The ninth change of a window rewrites it whole, so a restore reads at most 8 parts of it."""
    archive, volume = Archive(memory), kit.Ram(b"\1" * 2048, cell=512)
    depths, parent = [], None
    for number in range(20):
        volume.data[number * 13] ^= 0x80
        manifest = archive.create(
            volume, Call(), volume="vol-1", snapshot=f"s{number}", parent=parent, options=small
        )
        depths.append(len(manifest.windows[0].parts))
        parent = f"s{number}"
    assert depths == [1, 2, 3, 4, 5, 6, 7, 8] * 2 + [1, 2, 3, 4]
    assert restored(kit, archive, "s19", 2048) == volume.data


def test_mostly_changed_windows_are_stored_whole(kit, memory, small):
    """If more than half of a window has changed, it gets one new part and no layer."""
    archive, volume = Archive(memory), kit.Ram(b"\1" * 2048, cell=512)
    archive.create(volume, Call(), volume="vol-1", snapshot="s0", options=small)
    volume.data[:1025] = b"\2" * 1025
    manifest = archive.create(volume, Call(), volume="vol-1", snapshot="s1", parent="s0")
    assert [part.layer.split("/")[0] for _, part in manifest.parts()] == ["s1"]


def test_zeroed_window_vanishes(kit, memory, small):
    """A window that became zero needs no part, and restores to zeros."""
    archive, volume = Archive(memory), kit.Ram(b"\1" * 4096, cell=512)
    archive.create(volume, Call(), volume="vol-1", snapshot="s0", options=small)
    volume.data[:2048] = bytes(2048)
    manifest = archive.create(
        volume, Call(), volume="vol-1", snapshot="s1", parent="s0", changed=[Extent(0, 2048)]
    )
    assert [window.offset for window in manifest.windows] == [2048]
    assert restored(kit, archive, "s1", 4096) == volume.data


def test_missed_change_is_found_when_a_window_is_rewritten(kit, memory, small):
    """A block that the driver forgot to report is stored right as soon as its window is read as a whole."""
    archive, volume = Archive(memory), kit.Ram(b"\1" * 2048, cell=512)
    archive.create(volume, Call(), volume="vol-1", snapshot="s0", options=small)
    volume.data[:] = b"\2" * 2048
    archive.create(volume, Call(), volume="vol-1", snapshot="s1", parent="s0", changed=[Extent(0, 1536)])
    assert restored(kit, archive, "s1", 2048) == volume.data


@pytest.mark.parametrize("size", [1, 511, 2048, 2049, 5000])
@pytest.mark.parametrize("new_size", [1, 512, 2047, 4096, 9000])
@pytest.mark.parametrize("listed", [True, False])
def test_resize(kit, memory, small, size, new_size, listed):
    """A volume that grew or shrank between two snapshots restores at each size, listed changes or not."""
    archive, volume = Archive(memory), kit.Ram(b"\1" * size, cell=512)
    archive.create(volume, Call(), volume="vol-1", snapshot="s0", options=small)
    resized = kit.Ram(bytes(volume.data[:new_size]) + b"\3" * (new_size - size), cell=512)
    resized.data[0] = 9
    changed = [Extent(0, 1)] if listed else None
    archive.create(resized, Call(), volume="vol-1", snapshot="s1", parent="s0", changed=changed)
    assert restored(kit, archive, "s1", new_size) == resized.data
    assert restored(kit, archive, "s0", size) == volume.data


def test_range_and_larger_target(kit, memory, small):
    """A range goes to its own place, and nothing else in the target is touched."""
    archive, volume = Archive(memory), kit.Ram(kit.noise(3, 9000), cell=512)
    archive.create(volume, Call(), volume="vol-1", snapshot="s0", options=small)
    for offset, length in [(0, 0), (0, 1), (100, 5000), (2048, 2048), (8999, 1)]:
        sink = kit.Ram(b"\xee" * 12_000)
        archive.restore(sink, Call(), volume="vol-1", snapshot="s0", offset=offset, length=length)
        expected = bytearray(b"\xee" * 12_000)
        expected[offset : offset + length] = volume.data[offset : offset + length]
        assert sink.data == expected


def test_sparse_stays_sparse(kit, memory):
    """Holes are not stored; a new target gets no zeros at all, another one gets them as `zero`."""
    archive, volume = Archive(memory), kit.Ram(64 * MIB)
    volume.data[40 * MIB] = 1
    manifest = archive.create(volume, Call(), volume="vol-1", snapshot="s0", options=OPTIONS)
    assert len(manifest.windows) == 1
    new = kit.Ram(64 * MIB)
    archive.restore(new, Call(), volume="vol-1", snapshot="s0", sink_is_zero=True)
    assert new.writes == [(40 * MIB, GRANULE)]
    assert new.zeros == []
    used = kit.Ram(64 * MIB)
    archive.restore(used, Call(), volume="vol-1", snapshot="s0")
    assert used.writes == [(40 * MIB, GRANULE)]
    assert sum(length for _, length in used.zeros) == 64 * MIB - GRANULE


def test_empty_volume(kit, memory):
    """A volume of no bytes, and one of only zeros, are archived and restored."""
    archive = Archive(memory)
    for name, size in [("s0", 0), ("s1", 3 * MIB)]:
        manifest = archive.create(kit.Ram(size), Call(), volume="vol-1", snapshot=name)
        assert manifest.windows == ()
        assert restored(kit, archive, name, size) == bytes(size)


@pytest.mark.parametrize("compression", ["deflate", "auto"])
def test_compression(kit, memory, compression):
    """Text shrinks, noise is kept as it is, and both come back."""
    archive, volume = Archive(memory), kit.Ram(2 * MIB)
    volume.data[:MIB] = (b"The quick brown fox. " * MIB)[:MIB]
    volume.data[MIB:] = kit.noise(1, MIB)
    options = CreateOptions(window_size=MIB, compression=compression)
    manifest = archive.create(volume, Call(), volume="vol-1", snapshot="s0", options=options)
    text, noise = (part.size for _, part in manifest.parts())
    assert text < MIB // 10
    assert noise >= MIB
    assert restored(kit, archive, "s0", volume.size) == volume.data
    assert archive.verify(Call(), volume="vol-1", snapshot="s0", level=Level.IMAGE).ok


def test_digest_tells_content_apart(kit, memory, small):
    """The image digest depends on content, place and size, and not on how it came into the archive."""
    archive = Archive(memory)

    def digest(name: str, data: bytes, parent: str | None = None) -> str:
        source = kit.Ram(data, cell=512)
        return archive.create(
            source, Call(), volume="vol-1", snapshot=name, parent=parent, options=small
        ).digest

    first = digest("s0", b"\1" * 1024 + bytes(4096))
    other = digest("s1", bytes(1024) + b"\1" * 1024 + bytes(3072))
    longer = digest("s2", b"\1" * 1024 + bytes(5000))
    again = digest("s3", b"\1" * 1024 + bytes(4096), parent="s1")
    assert first == again
    assert len({first, other, longer}) == 3


cells = st.lists(st.integers(0, 3), min_size=11, max_size=11)


@settings(max_examples=60)
@given(states=st.lists(st.tuples(cells, st.booleans(), st.integers(0, 5)), min_size=1, max_size=6))
def test_any_chain_restores(kit, small, states):
    """Whatever the contents, parents and the use of changed blocks: every snapshot is what it was."""
    contents: list[bytes] = []
    archive = Archive(kit.MemoryStore(), workers=Workers(count=1, executor=kit.Inline()))
    for number, (values, listed, back) in enumerate(states):
        content = b"".join(bytes([value]) * 500 for value in values)
        parent = None if number == 0 or back == 5 else max(0, number - 1 - back)
        changed = None
        if parent is not None and listed:
            pairs = zip(contents[parent], content, strict=True)
            changed = [Extent(i, 1) for i, (old, new) in enumerate(pairs) if old != new]
        archive.create(
            kit.Ram(content, cell=500),
            Call(),
            volume="vol-1",
            snapshot=f"s{number}",
            parent=None if parent is None else f"s{parent}",
            changed=changed,
            options=small,
        )
        contents.append(content)
    for number, content in enumerate(contents):
        assert restored(kit, archive, f"s{number}", len(content)) == content


def test_repeating_gives_the_same(kit, memory, small):
    """A second `create` of the same snapshot sends nothing; with another size or parent it is a conflict."""
    archive, volume = Archive(memory), kit.Ram(b"\1" * 4096, cell=512)
    first = archive.create(volume, Call(), volume="vol-1", snapshot="s0", options=small)
    memory.sent = 0
    assert archive.create(volume, Call(), volume="vol-1", snapshot="s0", options=small) == first
    assert memory.sent == 0
    with pytest.raises(Conflict, match="4096 bytes"):
        archive.create(kit.Ram(512), Call(), volume="vol-1", snapshot="s0")


def test_bad_requests_do_nothing(kit, memory, small):
    """Each wrong argument is refused before anything is written."""
    archive, volume = Archive(memory), kit.Ram(b"\1" * 4096, cell=512)
    archive.create(volume, Call(), volume="vol-1", snapshot="s0", options=small)
    before = dict(memory.objects)

    def create(**arguments: Any) -> None:
        archive.create(volume, Call(), **({"volume": "vol-1", "snapshot": "s1"} | arguments))

    wrong: list[dict[str, Any]] = [
        {"volume": "../etc"},
        {"snapshot": "S1"},
        {"parent": "s1"},
        {"changed": []},
        {"parent": "s0", "options": CreateOptions(window_size=4096)},
        {"options": CreateOptions(window_size=1000, granule=512)},
        {"options": CreateOptions(window_size=2048, granule=768)},
    ]
    for arguments in wrong:
        with pytest.raises(InvalidArgument):
            create(**arguments)
    with pytest.raises(NotFound):
        create(parent="s9")
    for options in ({"origin": "a\nb"}, {"sector_size": 0}, {"created": datetime(2026, 1, 1)}):  # noqa: DTZ001 - wrong
        with pytest.raises(InvalidArgument):
            CreateOptions(**options)
    sink = kit.Ram(100)
    for offset, length in [(0, 4096), (4000, 97), (-1, None)]:
        with pytest.raises(InvalidArgument):
            archive.restore(sink, Call(), volume="vol-1", snapshot="s0", offset=offset, length=length)
    with pytest.raises(NotFound):
        archive.restore(sink, Call(), volume="vol-1", snapshot="s9")
    assert sink.writes == sink.zeros == []
    assert [key for key in memory.objects if key not in before and not key.endswith("begin.json")] == []


def test_unsorted_changes_are_refused(kit, memory, small):
    """Changed blocks out of order or outside of the volume never lead to a manifest."""
    archive, volume = Archive(memory), kit.Ram(b"\1" * 4096, cell=512)
    archive.create(volume, Call(), volume="vol-1", snapshot="s0", options=small)
    for number, changed in enumerate(([Extent(512, 9), Extent(0, 9)], [Extent(4090, 7)], [Extent(0, -1)])):
        with pytest.raises(InvalidArgument, match="changed extent"):
            archive.create(
                volume, Call(), volume="vol-1", snapshot=f"x{number}", parent="s0", changed=changed
            )
    assert [entry.snapshot for entry in archive.list(Call())] == ["s0"]


def test_list_and_show(kit, memory, small):
    """Snapshots are listed by volume or all, also one that a lagging listing hides but the caller knows."""
    archive = Archive(memory)
    for volume, snapshot in [("vol-1", "s0"), ("vol-1", "s1"), ("vol-2", "s0")]:
        archive.create(kit.Ram(b"\1" * 100), Call(), volume=volume, snapshot=snapshot, options=small)
    memory.objects["v1/vol-1/notes.txt"] = b"a stranger's file"
    every = [(entry.volume, entry.snapshot) for entry in archive.list(Call())]
    assert every == [("vol-1", "s0"), ("vol-1", "s1"), ("vol-2", "s0")]
    assert [entry.snapshot for entry in archive.list(Call(), volume="vol-1")] == ["s0", "s1"]
    lagging = kit.MemoryStore(kit.MemoryOptions(listing_consistent=False))
    lagging.objects = memory.objects
    found = Archive(lagging).list(Call(), volume="vol-1", known=["s1", "s7"])
    assert [entry.snapshot for entry in found] == ["s1"]


def test_cancel_and_deadline(kit, memory, small):
    """A cancelled call, and one whose time is over, end with a typed error and commit nothing."""
    call = Call()
    call.cancel.set()
    volume = kit.Ram(b"\1" * 100_000, cell=512)
    with pytest.raises(DeadlineExceeded):
        Archive(memory).create(volume, call, volume="vol-1", snapshot="s0", options=small)
    call = Call()
    memory.hook = lambda _when, _method, key: call.cancel.set() if key.endswith(".zip") else None
    with pytest.raises(DeadlineExceeded, match="cancelled"):
        Archive(memory).create(volume, call, volume="vol-1", snapshot="s0", options=small)
    assert sum(key.endswith(".zip") for key in memory.objects) < 25
    assert not any(key.endswith("manifest.json") for key in memory.objects)
    assert volume.open_clones == [0]


def test_progress(kit, memory, small):
    """Progress grows and ends at the size of the volume."""
    seen: list[tuple[int, int]] = []
    call = Call(progress=lambda done, total: seen.append((done, total)))
    volume = kit.Ram(b"\1" * 50_000, cell=512)
    Archive(memory).create(volume, call, volume="vol-1", snapshot="s0", options=small)
    assert seen == sorted(seen)
    assert seen[-1] == (50_000, 50_000)
    seen.clear()
    Archive(memory).restore(kit.Ram(50_000), call, volume="vol-1", snapshot="s0")
    assert seen[-1] == (50_000, 50_000)


def test_first_error_is_raised_and_stops_the_rest(kit, memory, small):
    """An error of one worker is raised as it is, and the others do not go on for long."""

    def fail(_when: str, method: str, key: str) -> None:
        if method == "put" and "/0000000000001000." in key:
            raise Unavailable("the store is away")

    memory.hook = fail
    volume = kit.Ram(b"\1" * 400_000, cell=512)
    with pytest.raises(Unavailable, match="the store is away"):
        Archive(memory).create(volume, Call(), volume="vol-1", snapshot="s0", options=small)
    assert sum(key.endswith(".zip") for key in memory.objects) < 20
    assert volume.open_clones == [0]


def test_memory_is_bounded(kit, memory):
    """Archiving 96 MiB takes a few windows of memory, not the volume's size."""
    window, count = MIB, 96
    noise = kit.noise(1, window)

    class Endless(kit.Ram):  # type: ignore[misc,name-defined]  # the kit is loaded at run time
        """A volume that exists only while it is read."""

        size = count * window

        def extents(self, offset: int, length: int) -> Iterator[Extent]:
            yield Extent(offset, length)

        def read_into(self, offset: int, buffer: memoryview) -> None:
            buffer[:] = noise[offset % window : offset % window + len(buffer)]

    workers = Workers(count=4, budget=4 * window)
    archive, volume = Archive(memory, workers=workers), Endless(0)
    sizes: dict[str, int] = {}
    real_put = memory.put

    def put(key: str, body: Any, call: Call, *, if_absent: bool = False) -> Any:
        if not key.endswith(".zip"):
            return real_put(key, body, call, if_absent=if_absent)
        with body.open() as reader:
            while reader.read(65536):
                pass
        sizes[key] = body.size
        return None

    memory.put = put
    memory.list = lambda prefix, _call, **_: Page(
        items=[StoredObject(key=key, size=size) for key, size in sizes.items() if key.startswith(prefix)]
    )
    tracemalloc.start()
    archive.create(volume, Call(), volume="vol-1", snapshot="s0", options=CreateOptions(window_size=window))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(sizes) == count
    assert peak < 16 * window


def test_lanes_stay_within_their_budget(kit):
    """Windows are worked on together as long as they fit; one that never fits goes alone; memory is kept."""
    lanes = Lanes(kit.Ram(MIB), 3, 8 * MIB, budget=8 * MIB)
    with lanes:
        with lanes.take(3 * MIB) as one, lanes.take(3 * MIB) as two:
            assert one is not two
            assert not lanes.would_fit(3 * MIB)
        with lanes.take(8 * MIB) as warm:
            warm.buffer[:] = b"x" * len(warm.buffer)
        with lanes.take(8 * MIB) as again:
            assert again is warm
            assert again.buffer[0] == ord("x")
            assert not lanes.would_fit(1)
        with lanes.take(MIB), lanes.take(MIB), lanes.take(MIB):
            assert warm.buffer[0] == 0
        with lanes.take(100 * MIB):
            assert not lanes.would_fit(1)
    assert lanes.peak == 100 * MIB


def test_a_lane_gives_memory_back(kit):
    """What a part holds packed is dropped from the buffer, whole pages only."""
    with Lanes(kit.Ram(MIB), 1, MIB, budget=MIB) as lanes, lanes.take(MIB) as lane:
        lane.buffer[:] = b"x" * MIB
        lane.drop(100, 3 * mmap.PAGESIZE + 100)
        kept = bytes(lane.buffer[: 4 * mmap.PAGESIZE])
    page = mmap.PAGESIZE
    assert kept == b"x" * page + bytes(2 * page) + b"x" * page


def test_a_part_is_restored_with_two_requests(kit: Any, memory: Any):
    """Its end and one stream, not one request for each of its four frames."""
    data = kit.noise(1, 16 * MIB)
    archive = Archive(memory, workers=Workers(count=1))
    options = CreateOptions(window_size=16 * MIB)
    archive.create(kit.Ram(data), Call(), volume="v", snapshot="s", options=options)
    memory.calls.clear()
    whole = kit.Ram(16 * MIB)
    archive.restore(whole, Call(), volume="v", snapshot="s")
    assert bytes(whole.data) == data
    assert len([key for method, key in memory.calls if method == "get" and key.endswith(".zip")]) == 2
