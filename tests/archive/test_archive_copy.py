"""Copying snapshots between stores: whole, shared, in order, and after any death."""

from __future__ import annotations

from typing import Any

import pytest

from bollard.core.archive import Archive, Level, Timing
from bollard.core.archive.copy import parents_first
from bollard.core.spi import Call, Conflict, DataLoss, NotFound

SIZE = 8192
TIMING = Timing(lease=100, grace=50)


class Pair:
    """An archive with the chain s0 <- s1 <- s2, an empty store beside it, and a clock."""

    def __init__(self, kit: Any, small: Any, inline: Any) -> None:
        self.kit = kit
        self.inline = inline
        self.clock = kit.FakeClock()
        self.attempts = iter(range(10**6))
        self.here, self.there = kit.MemoryStore(), kit.MemoryStore()
        self.contents: dict[str, bytes] = {}
        data = bytearray(kit.noise(7, SIZE - 2048)) + bytearray(2048)
        for number, parent in enumerate([None, "s0", "s1"]):
            data[number * 700] ^= 1
            data[5000] = number
            name = f"s{number}"
            self.contents[name] = bytes(data)
            self.archive(self.here).create(
                kit.Ram(data, cell=512), Call(), volume="v", snapshot=name, parent=parent, options=small
            )

    def archive(self, store: Any) -> Archive:
        """A new process: nothing is remembered."""
        return self.inline(
            store,
            writer="job-1",
            clock=self.clock,
            new_attempt=lambda: f"t{next(self.attempts)}",
            timing=TIMING,
        )

    def copy(self, *snapshots: str, call: Call | None = None) -> Any:
        """Copy from here to there."""
        archive = self.archive(self.there)
        return archive.copy_from(self.archive(self.here), call or Call(), volume="v", snapshots=snapshots)

    def check(self, *snapshots: str) -> None:
        """These snapshots are there, whole; and after a collect nothing that they do not need."""
        archive = self.archive(self.there)
        assert [entry.snapshot for entry in archive.list(Call())] == list(snapshots)
        self.clock.now += 1000
        archive.collect(Call(), volume="v")
        needed = set()
        for name in snapshots:
            sink = self.kit.Ram(b"\xee" * SIZE)
            manifest = archive.restore(sink, Call(), volume="v", snapshot=name)
            assert sink.data == self.contents[name]
            assert archive.verify(Call(), volume="v", snapshot=name, level=Level.IMAGE).ok
            needed |= {manifest.key_of(window, part) for window, part in manifest.parts()}
        assert {key for key in self.there.objects if key.endswith(".zip")} == needed


@pytest.fixture
def pair(kit: Any, small: Any, inline: Any) -> Pair:
    """Two stores."""
    return Pair(kit, small, inline)


def parts(store: Any) -> list[str]:
    """File names of the parts of a store."""
    return sorted(key.rpartition("/")[2] for key in store.objects if key.endswith(".zip"))


def test_a_chain_is_copied_part_by_part(pair):
    """All snapshots arrive, parents first, each part once and as it is; the digests are the same."""
    seen: list[tuple[int, int]] = []
    done = pair.copy(call=Call(progress=lambda a, b: seen.append((a, b))))
    assert [one.snapshot for one in done] == ["s0", "s1", "s2"]
    assert parts(pair.there) == parts(pair.here)
    assert sum(one.parts for one in done) == len(parts(pair.here))
    assert (done[0].shared, done[1].shared > 0) == (0, True)
    assert seen[-1][0] == seen[-1][1]
    assert seen == sorted(seen)
    for name in pair.contents:
        digests = {
            pair.archive(s).show(Call(), volume="v", snapshot=name).digest for s in (pair.here, pair.there)
        }
        assert len(digests) == 1
    pair.check("s0", "s1", "s2")


def test_repeating_sends_nothing(pair):
    """A second copy finds everything there, and puts nothing at all."""
    pair.copy()
    pair.there.calls.clear()
    assert [(one.parts, one.size) for one in pair.copy()] == [(0, 0)] * 3
    assert not [call for call in pair.there.calls if call[0] == "put"]


def test_a_snapshot_is_whole_without_its_parents(pair):
    """s2 alone arrives with all that it needs; s1, which comes later, shares with whoever has its parts."""
    pair.copy("s2")
    pair.check("s2")
    [done] = pair.copy("s1")
    assert done.shared > 0
    pair.check("s1", "s2")


def test_an_increment_shares_with_what_is_left_of_its_chain(pair):
    """With its parent deleted on the target, an increment takes over parts of its grandparent."""
    pair.copy("s0")
    [done] = pair.copy("s2")
    assert done.shared > 0
    pair.check("s0", "s2")


def test_another_image_under_the_id_is_refused(pair, kit, small):
    """What the target has under an id is never replaced by something else."""
    other = kit.Ram(b"other" * 1000, cell=512)
    pair.archive(pair.there).create(other, Call(), volume="v", snapshot="s1", options=small)
    before = dict(pair.there.objects)
    with pytest.raises(Conflict, match="v/s1"):
        pair.copy("s1")
    assert pair.there.objects == before


@pytest.mark.parametrize("harm", ["flip", "cut", "grow", "remove"])
def test_damage_is_not_copied(pair, harm):
    """A damaged part of the source is named, no manifest appears; once it is good, the copy goes on."""
    key = sorted(key for key in pair.here.objects if "/s1/" in key and key.endswith(".zip"))[0]
    good = pair.here.objects[key]
    if harm == "remove":
        del pair.here.objects[key]
    else:
        bad = {"flip": good[:50] + bytes([good[50] ^ 1]) + good[51:], "cut": good[:-1], "grow": good + b"x"}
        pair.here.objects[key] = bad[harm]
    with pytest.raises(DataLoss, match=key):
        pair.copy()
    assert "v1/v/s0/manifest.json" in pair.there.objects
    assert "v1/v/s1/manifest.json" not in pair.there.objects
    pair.here.objects[key] = good
    pair.copy()
    pair.check("s0", "s1", "s2")


def test_what_is_not_there(pair):
    """A snapshot that the source does not have is NotFound, and nothing is copied."""
    with pytest.raises(NotFound):
        pair.copy("s1", "s9")
    assert pair.there.objects == {}


def test_deleted_meanwhile(pair):
    """A snapshot that is deleted from the source while it is copied is NotFound, not damage."""

    def delete(when: str, method: str, key: str) -> None:
        if method == "get" and key.endswith(".zip"):
            pair.here.calm()
            pair.here.objects.clear()

    pair.here.hook = delete
    with pytest.raises(NotFound):
        pair.copy("s0")
    assert not [key for key in pair.there.objects if key.endswith("manifest.json")]


@pytest.mark.parametrize("when", ["before", "after"])
def test_dying_anywhere(pair, kit, when):
    """Kill the copy at any call to either store and repeat it: all is whole, nothing is sent for nothing."""
    pair.copy()
    calls = len(pair.here.calls) + len(pair.there.calls)
    deaths = 0
    for number in range(calls):
        pair.there = kit.MemoryStore()
        left = [number]

        def hook(moment: str, method: str, key: str, left: list[int] = left) -> None:
            if moment == "before":
                left[0] -= 1
            if left[0] < -1 or (left[0] == -1 and moment == when):
                raise kit.Crash

        pair.here.hook = pair.there.hook = hook
        try:
            pair.copy()
        except kit.Crash:
            deaths += 1
        pair.here.calm()
        pair.there.calm()
        before = pair.there.sent
        there = len(parts(pair.there))
        pair.copy()
        assert len(parts(pair.there)) == len(parts(pair.here))  # no part twice
        assert there == 0 or before > 0
        pair.check("s0", "s1", "s2")
    assert deaths > 20


def test_order(pair):
    """Parents come before their children whatever the clocks said; without parents the older first."""
    chain = [pair.archive(pair.here).show(Call(), volume="v", snapshot=name) for name in ("s2", "s1", "s0")]
    assert [m.snapshot for m in parents_first(chain)] == ["s0", "s1", "s2"]
    assert [m.snapshot for m in parents_first(chain[:1])] == ["s2"]


def test_between_real_stores(kit, store, memory):
    """What was archived on one kind of store is copied to another, and restores there."""
    volume = kit.Ram(kit.noise(3, 200_000))
    Archive(memory).create(volume, Call(), volume="v", snapshot="s0")
    volume.data[100_000:100_500] = bytes(500)
    Archive(memory).create(volume, Call(), volume="v", snapshot="s1", parent="s0")
    target = Archive(store, pause=lambda _: None)
    assert len(target.copy_from(Archive(memory), Call(), volume="v")) == 2
    sink = kit.Ram(200_000)
    target.restore(sink, Call(), volume="v", snapshot="s1")
    assert sink.data == volume.data
    for name in ("s0", "s1"):
        target.delete(Call(), volume="v", snapshot=name, known=[])
