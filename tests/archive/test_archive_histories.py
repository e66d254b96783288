"""The model test: random histories lose nothing and leak nothing, or the checker would see it."""

from __future__ import annotations

import os
from typing import Any

import pytest

from bollard.core.archive import Archive
from bollard.core.archive.begin import Beginning
from bollard.core.archive.collect import Collector
from bollard.core.archive.names import parse
from bollard.core.archive.store import keys_under

BLOCK = 200  # histories of one test


@pytest.mark.parametrize("block", range(3))
def test_histories(kit: Any, histories: Any, block: int):
    """Nothing is lost and nothing leaks, whoever dies, sleeps or overtakes whom: 600 histories."""
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        assert histories.history(kit, seed) == [], f"seed {seed}"


@pytest.mark.slow
@pytest.mark.parametrize("block", range(3, 100 if os.environ.get("BOLLARD_LONG") else 10))
def test_many_histories(kit: Any, histories: Any, block: int):
    """The same, 2,000 histories in CI with those above, 20,000 with BOLLARD_LONG=1 (`make long`)."""
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        assert histories.history(kit, seed) == [], f"seed {seed}"


def test_histories_without_intents_lose_data(kit: Any, histories: Any, monkeypatch: pytest.MonkeyPatch):
    """Mutant: collect ignores intents. Among a few hundred histories the checker finds lost parts."""
    monkeypatch.setattr(Collector, "_protected", lambda *_: set())
    problems = (problem for seed in range(400) for problem in histories.history(kit, seed))
    assert any("is lost" in problem for problem in problems)


def test_histories_without_removal_leak(kit: Any, histories: Any, monkeypatch: pytest.MonkeyPatch):
    """Mutant: intents of dead writers are never removed. The checker finds them."""
    monkeypatch.setattr(Collector, "_remove_dead", lambda *_: None)
    problems = (problem for seed in range(50) for problem in histories.history(kit, seed))
    assert any("leaked" in problem for problem in problems)


def test_histories_are_reproducible(kit: Any, histories: Any):
    """A seed gives the same history again, call by call."""

    def calls(seed: int) -> list[tuple[str, str]]:
        world = histories.World(kit, seed, lagging=False)
        world.play(40)
        world.check()
        return list(world.store.calls)

    assert calls(17) == calls(17)


def adopted_while_collected(kit: Any, histories: Any) -> list[str]:
    """A second run takes over the parts of a dead one, while a collector is about to remove them.

    W1 puts parts, dies      W2 sees its intent, sleeps             W2 takes over, commits
                                             C removes intent, looks                       C removes parts
    """
    world = histories.World(kit, 0, lagging=False)
    world.content["s0"] = bytes([1]) * histories.CELLS * histories.GRANULE

    def create(archive: Archive) -> None:
        source = kit.Ram(world.content["s0"], cell=histories.GRANULE)
        archive.create(source, world.call(), volume="vol", snapshot="s0", options=histories.OPTIONS)
        world.committed.add("s0")

    first = world.start(create, writer="a")
    world.step_until(first, "put", "manifest.json")
    world.finish(first, kill=True)
    world.now += 200
    second = world.start(create, writer="a")
    world.step_until(second, "put", "begin.json")
    collector = world.start(lambda archive: archive.collect(world.call(), volume="vol") and None)
    world.step_until(collector, "delete", ".zip")
    world.finish(second)
    world.finish(collector)
    return world.check()


def test_parts_of_a_collected_run_are_not_taken_over(kit: Any, histories: Any):
    """Whose intent is gone after ours was put may be in a collector's hands: its parts are sent again."""
    assert adopted_while_collected(kit, histories) == []


def test_without_the_second_look_at_earlier_runs_data_is_lost(
    kit: Any, histories: Any, monkeypatch: pytest.MonkeyPatch
):
    """Mutant: parts are taken over without reading the earlier intent again."""

    def adopt(self: Any, earlier: Any, call: Any) -> dict[tuple[str, int], str]:
        found = ((parse(item.key), item.size) for item in keys_under(self.store, self._prefix, call))
        return {(key.part, size): key.layer for key, size in found if key and key.part}

    monkeypatch.setattr(Beginning, "_adopt", adopt)
    assert any("is lost" in problem for problem in adopted_while_collected(kit, histories))


def read_intents_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: collect looks for intents before it reads the manifests."""
    protected, manifests = Collector._protected, Collector._manifests
    early: dict[int, set[str] | None] = {}

    def read_manifests(self: Any, snapshots: Any, call: Any) -> Any:
        early[id(self)] = protected(self, set(), self.clock(), call)
        return manifests(self, snapshots, call)

    monkeypatch.setattr(Collector, "_manifests", read_manifests)
    monkeypatch.setattr(Collector, "_protected", lambda self, *_: early[id(self)])


def begun_between_the_looks(kit: Any, histories: Any) -> list[str]:
    """An increment begins after collect's first look, and its parent is deleted before the second."""
    world = histories.World(kit, 0, lagging=False)
    old = bytes([1]) * histories.CELLS * histories.GRANULE
    world.content |= {"s0": old, "s1": bytes([2]) + old[1:]}

    def create(name: str, parent: str | None) -> Any:
        def work(archive: Archive) -> None:
            source = kit.Ram(world.content[name], cell=histories.GRANULE)
            archive.create(
                source,
                world.call(),
                volume="vol",
                snapshot=name,
                parent=parent,
                options=histories.OPTIONS,
            )
            world.committed.add(name)

        return work

    world.finish(world.start(create("s0", None)))
    world.now += 200  # its own intent protects it no more
    collector = world.start(lambda archive: archive.collect(world.call(), volume="vol") and None)
    world.step_until(collector, "get", "s0/manifest.json")
    increment = world.start(create("s1", "s0"))
    world.step_until(increment, "put", ".zip")
    world.deleting.add("s0")
    deletion = world.start(lambda archive: archive.delete(world.call(), volume="vol", snapshot="s0") and None)
    world.step_until(deletion, "list", "")
    world.finish(deletion, kill=True)
    world.finish(collector)
    world.finish(increment)
    return world.check()


def test_intents_are_read_after_the_manifests(kit: Any, histories: Any):
    """An increment that began while collect was reading manifests is seen by its look for intents."""
    assert begun_between_the_looks(kit, histories) == []


def test_in_the_other_order_data_is_lost(kit: Any, histories: Any, monkeypatch: pytest.MonkeyPatch):
    """Mutant: with the two looks swapped the same course of events takes the increment's parts away."""
    read_intents_first(monkeypatch)
    assert any("missing" in problem for problem in begun_between_the_looks(kit, histories))
