"""Random histories in which one image is replaced again and again, beside all else that happens to a volume.

Whoever dies, sleeps or overtakes whom: once one replacement has succeeded there is always an image in the
place, and it is whole: one that somebody has put there.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from bollard.core.archive import Archive
from bollard.core.archive import replace as engine
from bollard.core.archive.names import manifest_key

PLACE = "copy"


class _AnyOf(list[bytes]):
    """Equal to any of its members, as the checker compares."""

    __hash__ = None  # type: ignore[assignment]  # what changes has none

    def __eq__(self, other: object) -> bool:
        return any(one == other for one in self)

    def __ne__(self, other: object) -> bool:
        return not self == other


def _world(kit: Any, histories: Any, seed: int) -> Any:
    """A world where half of the deletions are replacements of `PLACE` by what the volume holds then."""

    class Replacing(histories.World):  # type: ignore[misc]  # conftest loads it by its path
        content: dict[str, Any]

        def __init__(self) -> None:
            super().__init__(kit, seed, lagging=seed % 4 == 3)
            self.content[PLACE] = _AnyOf()
            self.deleting.add(PLACE)  # it is neither backed up nor anybody's parent
            self.there = False

        def delete(self) -> None:
            if self.random.random() < 0.5:
                self.replace()
                return
            old, self.content = self.content, {k: v for k, v in self.content.items() if k != PLACE}
            super().delete()
            self.content = old

        def _delete(self, archive: Archive, snapshot: str, known: list[str]) -> None:
            super()._delete(archive, snapshot, [*known, PLACE])

        def replace(self) -> None:
            data = bytes(self.volume)
            self.content[PLACE].append(data)

            def work(archive: Archive) -> None:
                source = kit.Ram(data, cell=histories.GRANULE)
                ids = {"volume": histories.VOLUME, "snapshot": PLACE}
                archive.replace(source, self.call(), **ids, options=histories.OPTIONS)
                self.there = True

            self.start(work)

        def _check_restores(self, when: str) -> None:
            super()._check_restores(when)
            if self.there and f"v1/{histories.VOLUME}/{PLACE}/manifest.json" not in self.store.objects:
                self.problems.append(f"{when}: the place is empty")

    return Replacing()


def _history(kit: Any, histories: Any, seed: int) -> list[str]:
    world = _world(kit, histories, seed)
    world.play(40)
    found: list[str] = world.check()
    return found


def test_histories_with_replacements(kit: Any, histories: Any):
    """Nothing is lost and nothing leaks, among 80 histories, or 5,000 with BOLLARD_LONG=1 (`make long`)."""
    for seed in range(5000) if os.environ.get("BOLLARD_LONG") else [*range(50, 120), 3592]:
        assert _history(kit, histories, seed) == [], f"seed {seed}"


def test_histories_that_delete_first_lose_the_place(
    kit: Any, histories: Any, monkeypatch: pytest.MonkeyPatch
):
    """Mutant: the old image is deleted before the new one is there. The checker finds an empty place."""
    committed = engine.Replacement._committed

    def deleting(self: engine.Replacement, call: Any) -> str:
        attempt = committed(self, call)
        key = manifest_key(self.beginning.volume, self.beginning.snapshot)
        self.store.delete(key, call)
        return attempt

    monkeypatch.setattr(engine.Replacement, "_committed", deleting)
    problems = (problem for seed in range(200) for problem in _history(kit, histories, seed))
    assert any("the place is empty" in problem for problem in problems)
