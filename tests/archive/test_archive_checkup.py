"""Check-ups: every part is looked at once in a turn, whatever comes and goes, and damage is told."""

from __future__ import annotations

from math import ceil
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bollard.core.archive import Archive, CreateOptions, Cursor, Level, Workers
from bollard.core.archive.checkup import RING, position_of
from bollard.core.spi import Call, InvalidArgument

WINDOW = 1024
OPTIONS = CreateOptions(window_size=WINDOW, granule=512)


def fill(kit: Any, archive: Archive, volume: str, snapshots: int, windows: int) -> None:
    """A full, and increments that change its first window."""
    for number in range(snapshots):
        data = b"".join(bytes([1 + window]) * WINDOW for window in range(windows))
        archive.create(
            kit.Ram(bytes([100 + number]) * WINDOW + data, cell=512),
            Call(),
            volume=volume,
            snapshot=f"s{number}",
            parent=f"s{number - 1}" if number else None,
            options=OPTIONS,
        )


@pytest.fixture
def archive(kit: Any, memory: Any) -> Archive:
    """Two volumes with 3 snapshots each, 9 and 5 parts."""
    archive = Archive(memory, workers=Workers(count=1, executor=kit.Inline()))
    fill(kit, archive, "vol-a", 3, 6)
    fill(kit, archive, "vol-b", 3, 2)
    return archive


def parts(memory: Any) -> list[str]:
    """Keys of all parts."""
    return sorted(key for key in memory.objects if key.endswith(".zip"))


def reads(memory: Any) -> list[str]:
    """Parts that were read since the last time."""
    found = sorted(key for method, key in memory.calls if method == "get" and key.endswith(".zip"))
    memory.calls.clear()
    return found


@settings(max_examples=50, deadline=None)
@given(percent=st.floats(0.9, 100), start=st.integers(0, RING - 1))
def test_a_turn_reads_every_part(kit: Any, percent: float, start: int):
    """100/percent runs read each part, and not one of them three times."""
    memory = kit.MemoryStore()
    archive = Archive(memory, workers=Workers(count=1, executor=kit.Inline()))
    fill(kit, archive, "vol-a", 2, 6)
    cursor, seen = Cursor(position=start), []
    memory.calls.clear()
    for _ in range(ceil(100 / percent)):
        found = archive.check_up(Call(), cursor, percent=percent)
        assert found.ok
        cursor = found.cursor
        seen += reads(memory)
    assert sorted(set(seen)) == parts(memory)
    assert max(seen.count(key) for key in seen) <= 2


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_what_comes_and_goes_moves_nothing(kit: Any, data: st.DataObject):
    """Snapshots that come and go during a turn take no part out of it that stays."""
    memory = kit.MemoryStore()
    archive = Archive(memory, workers=Workers(count=1, executor=kit.Inline()))
    fill(kit, archive, "vol-a", 2, 6)
    stays, seen, cursor = set(parts(memory)), set[str](), Cursor()
    for number in range(20):
        if data.draw(st.booleans()):
            fill(kit, archive, f"vol-{number}", 1, data.draw(st.integers(1, 5)))
        elif number:
            archive.delete(Call(), volume=f"vol-{number - 1}", snapshot="s0")
        memory.calls.clear()
        cursor = archive.check_up(Call(), cursor, percent=5).cursor
        seen |= set(reads(memory))
    assert stays <= seen


@pytest.mark.parametrize("budget", [1, 700, 2500, 10**6])
def test_a_budget_is_kept(archive: Archive, memory: Any, budget: int):
    """No run reads more (but one part), and all are read in the end, in the order of the ring."""
    cursor, seen = Cursor(), []
    while cursor.turn == 0:
        memory.calls.clear()
        found = archive.check_up(Call(), cursor, percent=100, budget=budget)
        got = reads(memory)
        assert len(got) == found.read
        assert found.read_size <= budget or found.read == 1
        seen += sorted(got, key=position_of)
        cursor = found.cursor
    assert [key for key in seen if seen.count(key) > 1] == []
    assert seen == sorted(parts(memory), key=position_of)


def test_shared_parts_are_read_once(archive: Archive, memory: Any):
    """The whole ring is as many reads as there are parts, not as snapshots name."""
    memory.calls.clear()
    found = archive.check_up(Call(), Cursor(), percent=100)
    assert reads(memory) == parts(memory)
    assert (found.snapshots, found.parts, found.read) == (6, 14, 14)
    assert found.cursor == Cursor(position=0, turn=1, run=1)


def test_a_lost_part_is_noticed_by_every_run(archive: Archive, memory: Any):
    """Names and sizes are compared outside the sample, too; who needs the part is told."""
    lost = next(key for key in parts(memory) if "/s0/" in key and position_of(key) > RING // 50)
    shared = [k for k in parts(memory) if k.startswith("v1/vol-a/s0/")][1]
    del memory.objects[lost]
    memory.objects[shared] += b"x"
    found = archive.check_up(Call(), Cursor(), percent=1e-9)
    assert found.read == 0
    assert any(lost in problem for problem in found.problems)
    [problem] = [p for p in found.problems if shared in p]
    assert problem.endswith("needed by s0, s1, s2")


def test_a_flipped_bit_is_found_within_a_turn(archive: Archive, memory: Any):
    """Bytes are read at level 4; the run that finds the damage still goes on to the next stretch."""
    victim = parts(memory)[3]
    data = bytearray(memory.objects[victim])
    data[len(data) // 2] ^= 1
    memory.objects[victim] = bytes(data)
    cursor, problems = Cursor(), list[str]()
    while cursor.turn == 0:
        found = archive.check_up(Call(), cursor, percent=10)
        cursor = found.cursor
        problems += found.problems
    assert len(problems) == 1
    assert victim in problems[0]


def test_a_damaged_manifest_is_a_problem(archive: Archive, memory: Any):
    """The other snapshots are looked at all the same."""
    memory.objects["v1/vol-a/s1/manifest.json"] += b" "
    found = archive.check_up(Call(), Cursor(), percent=100)
    assert len(found.problems) == 1
    assert found.snapshots == 5


def test_a_snapshot_deleted_meanwhile_is_no_damage(archive: Archive, memory: Any):
    """Parts that go with their snapshot between the listing and the reading are not called lost."""
    gone = [key for key in memory.objects if key.startswith("v1/vol-b/")]

    def hook(when: str, method: str, key: str) -> None:
        if when == "before" and method == "get" and key.endswith(".zip"):
            for one in gone:
                memory.objects.pop(one, None)

    memory.hook = hook
    found = archive.check_up(Call(), Cursor(), percent=100)
    assert found.ok
    assert found.read == 14


def test_bad_arguments_are_refused(archive: Archive):
    """Nothing is read for them."""
    for more in ({"percent": 0}, {"percent": 101}, {"percent": 5, "budget": 0}):
        with pytest.raises(InvalidArgument):
            archive.check_up(Call(), Cursor(), **more)
    with pytest.raises(InvalidArgument):
        archive.check_up(Call(), Cursor(), percent=5, level=Level.IMAGE)
    with pytest.raises(InvalidArgument):
        Cursor(position=RING)
