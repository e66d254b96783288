"""kill -9 at any step of a migration: there is one whole volume, and the repeated command moves it.

CI kills at a sixth of the steps; `make long` at each of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
_PARTS = 1 if os.environ.get("BOLLARD_LONG") else 6
Rounds = list[dict[str, Any]]


@pytest.fixture(scope="module", params=["array qcow2", "qcow2 array"])
def rounds(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Rounds:
    """What was found after the run that nobody killed, and after each kill."""
    words = (*request.param.split(), str(tmp_path_factory.mktemp("lab")), str(_PARTS))
    done = subprocess.run(
        [sys.executable, "-m", "tests.snapshots.migration_kill_lab", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests" / "lib")},
        capture_output=True,
        text=True,
        timeout=480,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: Rounds = [json.loads(line) for line in done.stdout.splitlines()]
    assert sum(one["status"] == -9 for one in found) > 25 // _PARTS
    return found


def test_a_sweep_leaves_one_whole_volume(rounds: Rounds) -> None:
    """Never none, never two: the source with its limits, or the target; and nobody has access to it."""
    swept = [after["between"] for after in rounds if after["between"]]
    assert {place for state in swept for place in state["where"]} == {"source", "target"}
    for state in swept:
        assert len(state["where"]) == 1
        assert state["right"] == [True]
        assert False not in state["limited"]
        assert state["grants"] == []


def test_the_repeated_command_moves_it(rounds: Rounds) -> None:
    """Swept or not, the target is whole then, the source is gone, and so are all entries and grants."""
    for after in rounds:
        assert after["end"] == {"where": ["target"], "right": [True], "limited": [], "grants": []}
        assert after["later"] == []
        assert after["intents"] == []


def test_nothing_is_left_of_a_moved_and_deleted_volume(rounds: Rounds) -> None:
    """With the target deleted, both pools are empty."""
    for after in rounds:
        assert after["left"] == []
