"""What snapshots cost: the figures agree with what deleting them really frees."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bollard.core.archive import Archive, CreateOptions, Timing, VolumeStats, Workers
from bollard.core.spi import Call, NotFound

TIMING = Timing(lease=100, grace=50, settle=10)
CELLS = 8
OPTIONS = CreateOptions(window_size=1024, granule=512)
Make = Callable[..., Archive]


def archive_on(kit: Any, store: Any, clock: Any, **more: Any) -> Archive:
    """An archive without threads, on a clock of its own."""
    inline = Workers(count=1, executor=kit.Inline())
    return Archive(store, clock=clock, timing=TIMING, workers=inline, **more)


def filled(kit: Any, seed: int, snapshots: int) -> tuple[Any, Any]:
    """A store with a random history: increments of increments, deletions, killed runs; and its clock."""
    rng, clock, store = random.Random(seed), kit.FakeClock(), kit.MemoryStore()  # noqa: S311 - no secret
    archive, volume, there = archive_on(kit, store, clock), bytearray(CELLS * 512), [None]
    for number in range(snapshots):
        for _ in range(rng.randint(0, 4)):
            start = 512 * rng.randrange(CELLS)
            volume[start : start + 512] = bytes([rng.randrange(4)]) * 512
        clock.now += rng.choice([1, 200])
        if rng.random() < 0.2:
            store.hook = crash_at(kit, rng.randint(1, 12))
        try:
            archive.create(
                kit.Ram(volume, cell=512),
                Call(),
                volume="vol",
                snapshot=f"s{number}",
                parent=rng.choice(there[-3:]),
                options=OPTIONS,
            )
            there.append(f"s{number}")
        except (kit.Crash, NotFound):
            pass
        store.calm()
        if rng.random() < 0.2 and len(there) > 1:
            archive.delete(Call(), volume="vol", snapshot=there.pop(rng.randrange(1, len(there))))
    return store, clock


def crash_at(kit: Any, calls: int) -> Callable[[str, str, str], None]:
    """A hook that kills the run before such a call."""
    left = [calls]

    def hook(when: str, method: str, key: str) -> None:
        left[0] -= when == "before"
        if left[0] < 0:
            raise kit.Crash

    return hook


def crash_at_commit(kit: Any) -> Callable[[str, str, str], None]:
    """A hook that kills the run before it puts its manifest."""

    def hook(when: str, method: str, key: str) -> None:
        if method == "put" and key.endswith("manifest.json"):
            raise kit.Crash

    return hook


def copied(kit: Any, store: Any) -> Any:
    """Another store with the same objects."""
    other = kit.MemoryStore()
    other.objects.update(store.objects)
    return other


def size(store: Any) -> int:
    """Bytes of the volume."""
    return sum(len(data) for key, data in store.objects.items() if key.startswith("v1/vol/"))


def kinds(found: VolumeStats) -> int:
    """Bytes that no snapshot pays for."""
    return found.running.size + found.unneeded.size + found.unclear.size + found.foreign.size


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), snapshots=st.integers(1, 7))
def test_figures_agree_with_what_deleting_frees(kit: Any, seed: int, snapshots: int):
    """`own` of each snapshot is what its deletion frees; costs and the rest add up to what is stored."""
    store, clock = filled(kit, seed, snapshots)
    clock.now += 1000
    found = archive_on(kit, store, clock).stats(Call(), volume="vol")

    assert found.stored == size(store)
    assert found.stored == sum(row.cost for row in found.snapshots) + kinds(found)
    clean = copied(kit, store)
    collected = archive_on(kit, clean, clock).collect(Call(), volume="vol")
    assert found.unneeded.size >= collected.size
    cleaned = archive_on(kit, clean, clock).stats(Call(), volume="vol")
    assert kinds(cleaned) == 0
    for row in cleaned.snapshots:
        other = copied(kit, clean)
        archive_on(kit, other, clock).delete(Call(), volume="vol", snapshot=row.snapshot)
        assert row.own == size(clean) - size(other)
        assert row.own <= row.cost <= row.own + row.shared


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), snapshots=st.integers(1, 7))
def test_what_nobody_needs_is_what_collect_removes(kit: Any, seed: int, snapshots: int):
    """Unneeded is exactly what a collect at the same moment takes away, running what it keeps."""
    store, clock = filled(kit, seed, snapshots)
    found = archive_on(kit, store, clock).stats(Call(), volume="vol")
    own_intents = len([key for key in store.objects if key.endswith("begin.json")])
    collected = archive_on(kit, store, clock).collect(Call(), volume="vol")

    assert collected.parts <= found.unneeded.count <= collected.parts + collected.intents
    assert collected.kept <= found.running.count <= collected.kept + own_intents


def two(kit: Any, archive: Archive) -> None:
    """A full of two windows, and an increment that changes the first."""
    for name, first, parent in (("s0", 1, None), ("s1", 2, "s0")):
        data = bytes([first]) * 512 + b"\1" * 1536
        archive.create(
            kit.Ram(data, cell=512), Call(), volume="vol", snapshot=name, parent=parent, options=OPTIONS
        )


@pytest.fixture
def archive(kit: Any, memory: Any) -> Archive:
    """An archive of a volume with two snapshots."""
    archive = archive_on(kit, memory, kit.FakeClock())
    two(kit, archive)
    return archive


def test_reads_no_part(archive: Archive, memory: Any):
    """Only listings, manifests and intents are read."""
    memory.calls.clear()
    archive.stats(Call(), volume="vol")
    read = {key.rpartition("/")[2] for method, key in memory.calls if method == "get"}
    assert read == {"manifest.json", "begin.json"}


def test_shared_parts_are_paid_in_equal_shares(archive: Archive):
    """The full's window that the increment keeps costs each of them half."""
    s0, s1 = archive.stats(Call(), volume="vol").snapshots
    assert (s0.snapshot, s0.logical, s0.data) == ("s0", 2048, 2048)
    assert s0.shared > 0
    assert abs((s0.cost - s0.own) - (s1.cost - s1.own)) <= 2
    assert s0.cost - s0.own + s1.cost - s1.own == s0.shared == s1.shared


def test_missing_and_damaged_are_named(archive: Archive, memory: Any):
    """A part that is gone is named; a manifest that cannot be read leaves its parts unclear, not unneeded."""
    lost = next(key for key in memory.objects if "/s1/" in key and key.endswith(".zip"))
    del memory.objects[lost]
    assert archive.stats(Call(), volume="vol").missing == (lost,)
    memory.objects["v1/vol/s1/manifest.json"] += b" "
    memory.objects["v1/vol/notes.txt"] = b"mine"
    found = archive.stats(Call(), volume="vol")
    assert len(found.damaged) == 1
    assert (found.unneeded.count, found.foreign.size) == (0, 4)
    assert found.unclear.size >= len(memory.objects["v1/vol/s1/manifest.json"])


def test_a_snapshot_deleted_meanwhile_is_no_damage(kit: Any, archive: Archive, memory: Any):
    """Parts that went with their snapshot during the look are not called missing."""
    two(kit, archive)
    gone = [key for key in memory.objects if "/s1/" in key]

    def hook(when: str, method: str, key: str) -> None:
        if when == "before" and method == "head":
            for one in gone:
                memory.objects.pop(one, None)

    lost = next(key for key in gone if key.endswith(".zip"))
    del memory.objects[lost]
    memory.hook = hook
    assert archive.stats(Call(), volume="vol").missing == ()


def test_a_running_backup_is_not_called_unneeded(kit: Any, archive: Archive, memory: Any):
    """Parts of a run whose intent lives count as running, after that as unneeded."""
    clock = archive._clock
    memory.hook = crash_at_commit(kit)
    with pytest.raises(kit.Crash):
        archive.create(kit.Ram(b"\7" * 2048, cell=512), Call(), volume="vol", snapshot="s9", options=OPTIONS)
    memory.calm()
    found = archive.stats(Call(), volume="vol")
    assert found.running.count > 1
    assert found.unneeded.count == 0
    clock.now += 1000  # type: ignore[attr-defined]  # the kit's clock
    later = archive.stats(Call(), volume="vol")
    assert later.running.count == 0
    assert later.unneeded == found.running
