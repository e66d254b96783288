"""kill -9 at any step of a snapshot or a restore: a sweep and the repeated command put all in order.

On the real array CI kills at a third of the steps; `make long` at each of them.
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
_REAL = 1 if os.environ.get("BOLLARD_LONG") else 3
_ISCSI = pytest.mark.real(root=True)
_LABS = [
    ("take", "array", "nfs", 1),
    ("restore", "array", "nfs", 1),
    pytest.param(("take", "iscsi_ssh", "nfs", _REAL), marks=_ISCSI),
    pytest.param(("restore", "iscsi_ssh", "nfs", _REAL), marks=_ISCSI),
    pytest.param(("take", "iscsi_ssh", "s3", _REAL), marks=_ISCSI),
]
Rounds = list[dict[str, Any]]


@pytest.fixture(scope="module", params=_LABS, ids=lambda lab: "-".join(lab[:3]))
def rounds(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Rounds:
    """What was found after the run that nobody killed, and after each kill."""
    scenario, pool, store, parts = request.param
    words = (scenario, pool, store, str(tmp_path_factory.mktemp("lab")), str(parts))
    done = subprocess.run(
        [sys.executable, "-m", "tests.snapshots.snapshot_kill_lab", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests" / "lib")},
        capture_output=True,
        text=True,
        timeout=480,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: Rounds = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) > {"take": 20, "restore": 12}[scenario] // parts
    return found


def test_worker_is_killed_at_every_step(rounds: Rounds) -> None:
    """The lab runs through, then kills many times; some of the kills left work to the sweep."""
    assert [r["status"] for r in rounds] == [0] + [-9] * (len(rounds) - 1)
    assert sum(bool(r["swept"] or r["later"]) for r in rounds) > len(rounds) // 10


def test_nothing_temporary_stays(rounds: Rounds) -> None:
    """No clone, no grant, no journal entry and no snapshot on the array is left."""
    for after in rounds:
        assert after["temporary"] == []
        assert after["unknown"] == []
        assert after["grants"] == []
        assert after["intents"] == []
        assert after["snapshots"] == []


def test_repeated_command_gives_the_right_bytes(rounds: Rounds) -> None:
    """There is exactly one manifest, or one whole volume that no later sweep takes away again."""
    for after in rounds:
        assert after["there"]
        assert after["right"]
        assert after["archived"] == (["monday"] if after["scenario"] == "take" else [])


def test_what_is_deleted_afterwards_leaves_nothing(rounds: Rounds) -> None:
    """With volume and archive deleted, array and store hold what they held before: no file, no target."""
    for after in rounds:
        assert after["left"] == []
        assert after["gone"] == []
