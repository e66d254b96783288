"""The chunk store against a model: every byte, every slot, across flushes, snapshots, clones and crashes."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bollard.simulators.array.chunkmap import PAGE, ChunkMap
from bollard.simulators.array.database import Database
from bollard.simulators.array.slots import CHUNK
from bollard.simulators.array.store import Store

CHUNKS = 6
SIZE = CHUNKS * CHUNK - 512  # the last chunk is a part of one
POOL = 40 * CHUNK

INSERT_VOLUME = """
INSERT INTO volumes (id, name, pool, size, export_size, serial, metadata, qos, shares_blocks, created)
VALUES (?, ?, 'p', ?, ?, ?, '{}', '{}', 0, '')
"""

offsets = st.integers(0, SIZE // 512 - 1).map(lambda sector: sector * 512)
fills = st.integers(0, 255)


class StoreMachine(RuleBasedStateMachine):
    """Volumes and snapshots as byte strings beside the real ones.

    ``live`` is what a volume reads now; ``kept`` what it must read at least after a crash: chunks written in
    place since the last flush may show either, so the model only demands what was flushed where nothing was
    written since.
    """

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.live: dict[str, bytearray] = {}
        self.touched: dict[str, bool] = {}
        self.snapshots: dict[str, bytes] = {}
        self.count = 0

    @initialize()
    def start(self) -> None:
        """An empty pool with one volume."""
        self.open()
        self.add(ChunkMap(), bytearray(SIZE))

    def open(self) -> None:
        """A store on the directory, as after a start."""
        self.db = Database(self.directory / "db")
        self.store = Store(self.db, self.directory, {"p": POOL})

    def add(self, chunks: ChunkMap, content: bytearray) -> None:
        """A volume with these contents."""
        self.count += 1
        name = f"v{self.count}"
        with self.db.transaction():
            self.db.run(
                INSERT_VOLUME,
                *(name, name, SIZE, SIZE, name),
            )
            self.store.add_volume(name, "p", SIZE, chunks)
        self.live[name] = content
        self.touched[name] = False

    def pick(self, number: int) -> str:
        """One of the volumes."""
        return sorted(self.live)[number % len(self.live)]

    @rule(number=st.integers(0, 9), offset=offsets, length=st.integers(1, 3 * CHUNK // 512), fill=fills)
    def write(self, number: int, offset: int, length: int, fill: int) -> None:
        """Write a run of one byte; zeroes too."""
        name = self.pick(number)
        data = bytes([fill]) * min(length * 512, SIZE - offset)
        try:
            self.store.volumes[name].write(offset, memoryview(data))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            self.live[name] = bytearray(self.read(name))  # a part may have landed
        else:
            self.live[name][offset : offset + len(data)] = data
        self.touched[name] = True

    @rule(number=st.integers(0, 9), offset=offsets, length=st.integers(1, 3 * CHUNK // 512))
    def zero(self, number: int, offset: int, length: int) -> None:
        """Trim or write zeroes."""
        name, size = self.pick(number), min(length * 512, SIZE - offset)
        self.store.volumes[name].zero(offset, size)
        self.live[name][offset : offset + size] = bytes(size)
        self.touched[name] = True

    @rule(number=st.integers(0, 9))
    def flush(self, number: int) -> None:
        """Commit a volume's map."""
        self.store.commit(self.store.volumes[self.pick(number)])
        self.touched[self.pick(number)] = False

    @precondition(lambda self: len(self.snapshots) < 4)
    @rule(number=st.integers(0, 9))
    def snapshot(self, number: int) -> None:
        """Freeze a volume."""
        name, self.count = self.pick(number), self.count + 1
        snapshot = f"s{self.count}"
        with self.db.transaction():
            self.db.run(
                "INSERT INTO snapshots (id, name, volume, pool, size, metadata, created)"
                " VALUES (?, ?, ?, 'p', ?, '{}', '')",
                *(snapshot, snapshot, name, SIZE),
            )
            with self.store.frozen([name]):
                self.store.add_snapshot(snapshot, name)
        self.snapshots[snapshot] = bytes(self.live[name])
        self.touched[name] = False

    @precondition(lambda self: self.snapshots and len(self.live) < 4)
    @rule(number=st.integers(0, 9))
    def clone(self, number: int) -> None:
        """A volume from a snapshot."""
        name = sorted(self.snapshots)[number % len(self.snapshots)]
        self.add(self.store.snapshots[name].chunks.copy(), bytearray(self.snapshots[name]))

    @precondition(lambda self: self.snapshots)
    @rule(number=st.integers(0, 9), which=st.integers(0, 9))
    def revert(self, number: int, which: int) -> None:
        """A volume takes a snapshot's contents."""
        name, snapshot = self.pick(number), sorted(self.snapshots)[which % len(self.snapshots)]
        with self.db.transaction():
            self.store.replace(name, self.store.snapshots[snapshot].chunks.copy(), SIZE)
        self.live[name] = bytearray(self.snapshots[snapshot])
        self.touched[name] = False

    @precondition(lambda self: self.snapshots)
    @rule(number=st.integers(0, 9))
    def delete_snapshot(self, number: int) -> None:
        """Remove a snapshot."""
        name = sorted(self.snapshots)[number % len(self.snapshots)]
        with self.db.transaction():
            self.db.run("DELETE FROM snapshots WHERE id = ?", name)
            self.store.remove_snapshot(name)
        del self.snapshots[name]

    @precondition(lambda self: len(self.live) > 1)
    @rule(number=st.integers(0, 9))
    def delete_volume(self, number: int) -> None:
        """Remove a volume."""
        name = self.pick(number)
        with self.db.transaction():
            self.db.run("DELETE FROM volumes WHERE id = ?", name)
            self.store.remove_volume(name)
        del self.live[name], self.touched[name]

    @rule()
    def crash(self) -> None:
        """Lose the process between two operations; unflushed volumes may show any mix of old and new."""
        self.db.close()
        for pool in self.store.pools.values():
            pool.close()
        self.open()
        for name, touched in self.touched.items():
            if touched:
                self.live[name] = bytearray(self.read(name))
            self.touched[name] = False

    def read(self, name: str) -> bytes:
        """A volume's bytes."""
        data = bytearray(SIZE)
        self.store.volumes[name].read(0, memoryview(data))
        return bytes(data)

    @invariant()
    def volumes_read_what_was_written(self) -> None:
        """Each byte of each volume."""
        for name, content in self.live.items():
            assert self.read(name) == content

    @invariant()
    def snapshots_never_change(self) -> None:
        """Each byte of each snapshot, read through its map."""
        for name, content in self.snapshots.items():
            snapshot = self.store.snapshots[name]
            for chunk in range(CHUNKS):
                data = bytearray(CHUNK)
                if snapshot.chunks[chunk]:
                    snapshot.pool.read(snapshot.chunks[chunk], 0, memoryview(data))
                part = content[chunk * CHUNK : (chunk + 1) * CHUNK]
                assert data[: len(part)] == part

    @invariant()
    def extents_tell_the_truth(self) -> None:
        """Holes read as zeroes and the extents cover the volume."""
        for name, content in self.live.items():
            offset = 0
            for extent in self.store.volumes[name].extents(0, SIZE):
                assert extent.data or not any(content[offset : offset + extent.length])
                offset += extent.length
            assert offset == SIZE

    @invariant()
    def no_slot_leaks(self) -> None:
        """Slots in use are those of maps, plus those that a flush will give back."""
        used = set[int]()
        for volume in self.store.volumes.values():
            used |= {*volume.chunks.slots(), *volume.dropped}
        for snapshot in self.store.snapshots.values():
            used |= set(snapshot.chunks.slots())
        assert self.store.pools["p"].used_bytes == len(used) * CHUNK

    @invariant()
    def differences_are_exact(self) -> None:
        """Between any two snapshots every chunk that differs is reported, and unmapped ones as zero."""
        for base in self.snapshots:
            for target in self.snapshots:
                maps = self.store.snapshots
                found = dict(maps[target].chunks.differences(maps[base].chunks, 0, CHUNKS))
                for chunk in range(CHUNKS):
                    part = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
                    differs = self.snapshots[base][part] != self.snapshots[target][part]
                    assert chunk in found or not differs
                    assert not found.get(chunk) or not any(self.snapshots[target][part])

    def teardown(self) -> None:
        """Close and remove everything."""
        if hasattr(self, "store"):
            self.store.close()
            self.db.close()
        shutil.rmtree(self.directory)


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)


@given(
    st.dictionaries(st.integers(0, 3 * PAGE), st.integers(1, 50), max_size=30),
    st.integers(0, 3 * PAGE),
    st.integers(1, 3 * PAGE),
)
def test_runs_are_maximal_and_cover_the_range(mapped: dict[int, int], first: int, length: int) -> None:
    """Neighbouring runs never could have been one, and every chunk is told its own slot."""
    chunks = ChunkMap()
    for chunk, slot in mapped.items():
        chunks[chunk] = slot
    expected = first
    previous = None
    for run in chunks.runs(first, first + length):
        assert run.chunk == expected
        for index in range(run.number):
            assert mapped.get(run.chunk + index, 0) == (run.slot + index if run.slot else 0)
        if previous is not None:
            assert run.slot != (previous.slot + previous.number if previous.slot else 0)
        expected, previous = run.chunk + run.number, run
    assert expected == first + length
    assert chunks.mapped(first, first + length) == sorted(c for c in mapped if first <= c < first + length)


def test_a_rolled_back_snapshot_leaves_no_reference(tmp_path: Path) -> None:
    """When the transaction fails, slots, maps and the volume's unflushed changes are as before."""
    db = Database(tmp_path / "db")
    store = Store(db, tmp_path, {"p": POOL})
    with db.transaction():
        volume = store.add_volume("v", "p", SIZE)
    volume.write(0, memoryview(b"x" * 2 * CHUNK))
    store.commit(volume)
    old = volume.chunks[1]
    volume.zero(CHUNK, CHUNK)

    def fail() -> None:
        with db.transaction(), store.frozen(["v"]):
            store.add_snapshot("s", "v")
            raise KeyError("anything")

    with pytest.raises(KeyError):
        fail()
    assert "s" not in store.snapshots
    assert store.pools["p"].references(volume.chunks[0]) == 1
    assert store.pools["p"].references(old) == 1  # the database still points to it
    assert volume.chunks.dirty
    store.close()
    assert store.pools["p"].references(old) == 0
    assert db.number("SELECT COUNT(*) FROM map_pages") == 1
    db.close()


class Bench:
    """A store that can be crashed, with volumes by name."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.open()

    def open(self) -> None:
        """As after a start."""
        self.db = Database(self.directory / "db")
        self.store = Store(self.db, self.directory, {"p": POOL})

    def crash(self) -> None:
        """Nothing more is committed; start again."""
        self.db.close()
        self.store.pools["p"].close()
        self.open()

    def close(self) -> None:
        """Stop cleanly."""
        self.store.close()
        self.db.close()

    def add(self, name: str) -> None:
        """An empty volume."""
        with self.db.transaction():
            self.db.run(INSERT_VOLUME, name, name, SIZE, SIZE, name)
            self.store.add_volume(name, "p", SIZE)

    def read(self, name: str) -> bytes:
        """The first chunk."""
        data = bytearray(CHUNK)
        self.store.volumes[name].read(0, memoryview(data))
        return bytes(data)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A store with the volumes a and b."""
    bench = Bench(tmp_path)
    bench.add("a")
    bench.add("b")
    yield bench
    bench.close()


def test_a_slot_is_not_reused_before_its_release_is_durable(bench: Bench) -> None:
    """After a crash a trimmed chunk may come back old, but never with another volume's bytes."""
    a, b = bench.store.volumes["a"], bench.store.volumes["b"]
    a.write(0, memoryview(b"a" * CHUNK))
    bench.store.commit(a)
    a.zero(0, CHUNK)
    b.write(0, memoryview(b"b" * CHUNK))
    bench.crash()
    assert bench.read("a") == b"a" * CHUNK
    assert bench.read("b") == bytes(CHUNK)
    assert bench.store.pools["p"].used_bytes == CHUNK


def test_a_snapshot_makes_its_volume_durable(bench: Bench) -> None:
    """After a crash a volume is never older than its newest snapshot."""
    bench.store.volumes["a"].write(0, memoryview(b"a" * CHUNK))
    with bench.db.transaction(), bench.store.frozen(["a"]):
        bench.store.add_snapshot("s", "a")
    bench.crash()
    assert bench.read("a") == b"a" * CHUNK


def test_free_slots_are_found_again_at_start(bench: Bench) -> None:
    """Gaps that deletions left are filled after a restart, before the data file grows."""
    for name in ("a", "b"):
        bench.store.volumes[name].write(0, memoryview(b"x" * 2 * CHUNK))
        bench.store.commit(bench.store.volumes[name])
    gap = bench.store.volumes["a"].chunks.slots()
    with bench.db.transaction():
        bench.db.run("DELETE FROM volumes WHERE id = 'a'")
        bench.store.remove_volume("a")
    bench.crash()
    bench.store.volumes["b"].write(2 * CHUNK, memoryview(b"y" * 2 * CHUNK))
    assert bench.store.volumes["b"].chunks.slots()[2:] == gap
