"""The model's histories on each kind of store, through its driver, with requests, replies and bodies lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

FAULTS = 0.03
# A history is some 250 calls: 0.1 s on files, a second or two over HTTP. `make long` plays 500 of each kind.
LONG = bool(os.environ.get("BOLLARD_LONG"))
BLOCKS, BLOCK, REAL = (20, 25, 20) if LONG else (1, 4, 2)
pytestmark = [pytest.mark.slow] if LONG else []


def play(kit: Any, histories: Any, driver: Any, seeds: range, *, faults: float = FAULTS) -> int:
    """Play the histories of these seeds, each under a prefix of its own; return how many calls failed."""
    failed = 0
    for seed in seeds:
        store = kit.SteppedStore(driver, f"h{seed}/", seed, faults)
        assert histories.real_history(kit, seed, store) == [], f"seed {seed}"
        failed += store.failed
    return failed


@pytest.mark.parametrize("block", range(BLOCKS))
@pytest.mark.parametrize("kind", ["nfs", "s3", "swift"])
def test_histories(kit: Any, histories: Any, driver_of: Callable[[str], Any], kind: str, block: int):
    """No lost part, no leak, no wrong byte, whatever dies and fails: a few in CI, 500 in `make long`."""
    assert play(kit, histories, driver_of(kind), range(block * BLOCK, (block + 1) * BLOCK)) > 0


@pytest.mark.real
@pytest.mark.parametrize("kind", ["real_s3", "real_swift"])
def test_histories_on_real_servers(kit: Any, histories: Any, driver_of: Callable[[str], Any], kind: str):
    """The same on Swift's own servers, through both of their faces."""
    assert play(kit, histories, driver_of(kind), range(REAL)) > 0


def test_a_collector_that_ignores_intents_is_caught(
    kit: Any, histories: Any, driver_of: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
):
    """Mutant on files: parts are lost and the checker says so."""
    monkeypatch.setattr("bollard.core.archive.collect.Collector._protected", lambda *_: set())
    driver, problems = driver_of("nfs"), list[str]()
    for seed in range(400):
        problems += histories.real_history(kit, seed, kit.SteppedStore(driver, f"h{seed}/", seed, 0.0))
        if any("is lost" in problem for problem in problems):
            return
    pytest.fail("nothing was lost")
