"""kill -9 at any step of a snapshot or a restore: a sweep and the repeated command put all in order."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", params=["take", "restore"])
def rounds(request, tmp_path_factory) -> tuple[str, list[dict[str, Any]]]:
    """What was found after each kill, and after the run that nobody killed."""
    directory = tmp_path_factory.mktemp("lab")
    command = [sys.executable, "-m", "tests.snapshots.snapshot_kill_lab", request.param, directory]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return request.param, [json.loads(line) for line in done.stdout.splitlines()]


def test_worker_is_killed_at_every_step(rounds):
    """The lab kills many times, then runs through; some of the kills left work to the sweep."""
    scenario, found = rounds

    assert len(found) > {"take": 20, "restore": 12}[scenario]
    assert [r["status"] for r in found] == [-9] * (len(found) - 1) + [0]
    assert sum(bool(r["swept"] or r["later"]) for r in found) > 2


def test_nothing_temporary_stays(rounds):
    """No clone, no grant, no journal entry and no snapshot on the array is left."""
    for after in rounds[1]:
        assert after["temporary"] == []
        assert after["unknown"] == []
        assert after["grants"] == []
        assert after["intents"] == []
        assert after["snapshots"] == []


def test_repeated_command_gives_the_right_bytes(rounds):
    """There is exactly one manifest, or one whole volume that no later sweep takes away again."""
    scenario, found = rounds
    for after in found:
        assert after["there"]
        assert after["right"]
        assert after["archived"] == (["monday"] if scenario == "take" else [])
