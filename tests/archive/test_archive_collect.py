"""Deleting and collecting: never what somebody needs, in the end everything else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bollard.core.archive import Archive, Timing
from bollard.core.archive import begin as begin_module
from bollard.core.archive.collect import Collector, remove_manifest
from bollard.core.archive.intent import Lease
from bollard.core.spi import Call, Conflict, DataLoss, InvalidArgument, NotFound

TIMING = Timing(lease=100, grace=50, settle=10)
Make = Callable[..., Archive]


@pytest.fixture
def clock(kit: Any) -> Any:
    """A clock."""
    return kit.FakeClock()


@pytest.fixture
def make(inline: Make, clock: Any) -> Make:
    """Make an archive on that clock."""
    return lambda store, **more: inline(store, clock=clock, timing=TIMING, **more)


def create(kit: Any, archive: Archive, small: Any, name: str, first: int, parent: str | None = None) -> None:
    """Archive a volume of two windows; the first byte differs."""
    data = bytes([first]) + b"\1" * 4095
    archive.create(
        kit.Ram(data, cell=512), Call(), volume="vol-1", snapshot=name, parent=parent, options=small
    )


def content(kit: Any, archive: Archive, name: str) -> bytes:
    """What a snapshot restores to."""
    sink = kit.Ram(4096)
    archive.restore(sink, Call(), volume="vol-1", snapshot=name)
    return bytes(sink.data)


def parts(store: Any) -> list[str]:
    """Keys of all parts."""
    return sorted(key for key in store.objects if key.endswith(".zip"))


def during(store: Any, method: str, ending: str, action: Callable[[], None], *, skip: int = 0) -> None:
    """Do something just before such a call, once; `skip` calls of the kind go by first."""
    seen = []

    def hook(when: str, name: str, key: str) -> None:
        if when == "before" and name == method and key.endswith(ending):
            seen.append(key)
            if len(seen) == skip + 1:
                action()

    store.hook = hook


def test_parts_live_as_long_as_somebody_needs_them(kit, memory, small, make, clock):
    """Deleting a parent keeps the increment whole; deleting that too leaves nothing."""
    archive = make(memory)
    create(kit, archive, small, "s0", 1)
    create(kit, archive, small, "s1", 2, parent="s0")
    clock.now += 200
    freed = archive.delete(Call(), volume="vol-1", snapshot="s0")
    assert freed
    assert freed.parts == 0
    assert content(kit, archive, "s1") == b"\2" + b"\1" * 4095
    freed = archive.delete(Call(), volume="vol-1", snapshot="s1")
    assert freed
    assert (freed.parts, freed.kept) == (3, 0)
    assert not [key for key in memory.objects if key.startswith("v1/")]


def test_space_is_free_at_once(kit, memory, small, make):
    """Deleting a fresh snapshot frees its parts without waiting for a lease."""
    archive = make(memory)
    create(kit, archive, small, "s0", 1)
    freed = archive.delete(Call(), volume="vol-1", snapshot="s0")
    assert freed
    assert freed.parts == 2
    assert not [key for key in memory.objects if key.startswith("v1/")]


def test_deleting_what_is_not_there(kit, memory, small, make):
    """Deleting twice, or what never was, succeeds."""
    archive = make(memory)
    create(kit, archive, small, "s0", 1)
    for _ in range(2):
        archive.delete(Call(), volume="vol-1", snapshot="s0")
    archive.delete(Call(), volume="vol-9", snapshot="s9")


def test_other_volumes_and_strangers_are_left_alone(kit, memory, small, make):
    """Collect touches its own volume only, and there only what has the form of our keys."""
    archive = make(memory)
    create(kit, archive, small, "s0", 1)
    foreign = {
        "v1/vol-10/s0/a/0000000000000000.00000000000000000000000000000000.zip": b"x",
        "v1/vol-1/notes.txt": b"x",
        "v1/vol-1/s0/a/core.zip": b"x",
    }
    memory.objects |= foreign
    archive.delete(Call(), volume="vol-1", snapshot="s0")
    assert {key for key in memory.objects if key.startswith("v1/")} == set(foreign)


def test_a_damaged_snapshot_can_be_deleted(kit, memory, small, make, clock):
    """A damaged manifest stops collect (it may need anything) until it is deleted."""
    archive = make(memory)
    create(kit, archive, small, "s0", 1)
    create(kit, archive, small, "s1", 1)
    memory.objects["v1/vol-1/s0/manifest.json"] = b"{}"
    clock.now += 200
    before = parts(memory)
    with pytest.raises(DataLoss, match="vol-1/s0"):
        archive.collect(Call(), volume="vol-1")
    assert parts(memory) == before
    archive.delete(Call(), volume="vol-1", snapshot="s0")
    assert len(parts(memory)) == 2
    assert content(kit, archive, "s1") == b"\1" * 4096


def test_a_running_backup_is_protected(kit, memory, small, make, clock):
    """The parent is deleted while an increment runs: the increment commits and is whole."""
    archive = make(memory)
    create(kit, archive, small, "s0", 1)
    during(memory, "put", ".zip", lambda: make(memory).delete(Call(), volume="vol-1", snapshot="s0"))
    create(kit, archive, small, "s1", 2, parent="s0")
    memory.calm()
    assert content(kit, archive, "s1") == b"\2" + b"\1" * 4095
    clock.now += 200
    archive.collect(Call(), volume="vol-1")
    assert content(kit, archive, "s1") == b"\2" + b"\1" * 4095
    assert len(parts(memory)) == 3


def test_parent_deleted_before_the_intent(kit, memory, small, make):
    """The parent goes between reading it and putting the intent: the backup stops and says so."""
    archive = make(memory)
    create(kit, archive, small, "s0", 1)
    during(memory, "put", "begin.json", lambda: make(memory).delete(Call(), volume="vol-1", snapshot="s0"))
    with pytest.raises(NotFound, match="s0"):
        create(kit, archive, small, "s1", 2, parent="s0")
    assert not parts(memory)


def test_backup_while_collect_sleeps(kit, memory, small, make):
    """Collect is overtaken at any call by a backup and the deletion of its parent; nothing is lost."""
    for skip in range(20):
        memory.objects.clear()
        memory.calm()
        archive = make(memory)
        create(kit, archive, small, "s0", 1)

        def overtake() -> None:
            memory.calm()
            other = make(memory)
            create(kit, other, small, "s1", 2, parent="s0")
            remove_manifest(memory, "vol-1", "s0", Call())

        calls = [0]

        def hook(when: str, method: str, key: str, skip: int = skip, calls: list[int] = calls) -> None:
            calls[0] += when == "before"
            if calls[0] == skip + 1:
                overtake()

        memory.hook = hook
        archive.collect(Call(), volume="vol-1")
        if calls[0] <= skip:
            break
        assert content(kit, archive, "s1") == b"\2" + b"\1" * 4095
    assert skip > 5


def test_lagging_listing_needs_the_catalog(kit, small, make):
    """Where a new key may be missing from the listing, collect wants to know the snapshots, and waits."""
    store = kit.MemoryStore(kit.MemoryOptions(listing_consistent=False))
    pauses: list[float] = []
    archive = make(store, pause=pauses.append)
    create(kit, archive, small, "s0", 1)
    store.settle()
    create(kit, archive, small, "s1", 2, parent="s0")
    with pytest.raises(InvalidArgument, match="known"):
        archive.collect(Call(), volume="vol-1")
    assert archive.delete(Call(), volume="vol-1", snapshot="s0") is None
    archive.collect(Call(), volume="vol-1", known=["s0", "s1"])
    assert pauses == [TIMING.settle]
    assert content(kit, archive, "s1") == b"\2" + b"\1" * 4095


# -- each rule is needed: without it the same tests lose data -------------------------------------------


def test_without_intents_data_is_lost(kit, memory, small, make, monkeypatch):
    """Mutant: collect does not look at intents. The running backup ends with a part missing."""
    monkeypatch.setattr(Collector, "_protected", lambda *_: set())
    archive = make(memory)
    create(kit, archive, small, "s0", 1)
    during(memory, "put", "manifest.json", lambda: make(memory).delete(Call(), volume="vol-1", snapshot="s0"))
    create(kit, archive, small, "s1", 2, parent="s0")
    with pytest.raises(DataLoss, match="missing"):
        content(kit, archive, "s1")


def test_without_the_second_look_at_the_parent_data_is_lost(kit, memory, small, make, monkeypatch):
    """Mutant: the parent is not read again. Only the look at all parts before the commit stops it."""
    archive = make(memory)
    create(kit, archive, small, "s0", 1)
    parent = archive.show(Call(), volume="vol-1", snapshot="s0")
    monkeypatch.setattr(begin_module, "load_manifest", lambda *_: parent)
    during(memory, "put", "begin.json", lambda: make(memory).delete(Call(), volume="vol-1", snapshot="s0"))
    with pytest.raises(DataLoss, match="missing"):
        create(kit, archive, small, "s1", 2, parent="s0")


def test_without_the_lease_check_data_is_lost(kit, memory, small, make, clock, monkeypatch):
    """Mutant: the intent is not read again before the commit. A writer that slept commits what is gone."""

    def sleep_and_be_collected() -> None:
        clock.now += 200
        make(memory).collect(Call(), volume="vol-1")

    during(memory, "put", "manifest.json", sleep_and_be_collected)
    with monkeypatch.context() as mutant:
        mutant.setattr(Lease, "confirm", lambda _self, call: call)
        create(kit, make(memory), small, "s0", 1)
    with pytest.raises(DataLoss, match="missing"):
        content(kit, make(memory), "s0")
    memory.objects.clear()
    during(memory, "list", "", sleep_and_be_collected, skip=1)
    with pytest.raises(Conflict, match="taken away"):
        create(kit, make(memory), small, "s0", 1)
