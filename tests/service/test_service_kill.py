"""kill -9 at any step of any operation, over both databases: a sync, and all agrees; the command goes on.

CI kills at one of eight steps of each scenario; `make long` at each of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from .service_kill_lab import SCENARIOS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
_LONG = bool(os.environ.get("BOLLARD_LONG"))
_LABS = [
    ("sqlite", "nfs", 1 if _LONG else 8, ()),
    pytest.param(("postgresql", "nfs", 1 if _LONG else 8, ()), marks=pytest.mark.real),
    ("sqlite", "s3", 1 if _LONG else 24, ("leaves", "delete", "restore", "template-archived")),
]
_LAB = "tests.service.service_kill_lab"
Rounds = list[dict[str, Any]]


@pytest.fixture(scope="module", params=_LABS, ids=lambda lab: f"{lab[0]}-{lab[1]}")
def rounds(request: pytest.FixtureRequest) -> Rounds:
    """What was found after the run that nobody killed, and after each kill; in memory, for its fsyncs."""
    database, store, parts, names = request.param
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a directory of its own in it
    with tempfile.TemporaryDirectory(dir=memory) as directory:
        done = subprocess.run(
            [sys.executable, "-m", _LAB, database, store, directory, str(parts), *names],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT / "tests" / "lib")},
            capture_output=True,
            text=True,
            timeout=280 * (8 if _LONG else 1),
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_operation_is_killed(rounds: Rounds) -> None:
    """Each runs through once, and is killed then; more than a third of the kills left work to the sync."""
    kills = Counter(one["scenario"] for one in rounds if one["step"])
    assert set(kills) <= set(SCENARIOS)
    assert len(kills) in (4, len(SCENARIOS))
    assert {one["status"] for one in rounds if one["step"]} == {-9}
    assert sum(bool(one["ended"]) for one in rounds) > len(rounds) // 3


def test_a_sync_leaves_nothing_half(rounds: Rounds) -> None:
    """Records, pools, store and quota agree, every snapshot rests, nothing temporary is left anywhere."""
    assert [one for one in rounds if one["synced"]] == []


def test_the_repeated_command_ends_as_if_nobody_had_died(rounds: Rounds) -> None:
    """The bytes are right, and the state is that of the run which nobody killed."""
    assert [one for one in rounds if one["repeated"]] == []
    usual = {one["scenario"]: one["state"] for one in rounds if not one["step"]}
    assert [one for one in rounds if one["state"] != usual[one["scenario"]]] == []


def test_what_is_deleted_afterwards_leaves_nothing(rounds: Rounds) -> None:
    """Pools and store hold what they held before: no volume, no snapshot, no part, no intent."""
    assert [one for one in rounds if one["cleared"] or one["left"]] == []
