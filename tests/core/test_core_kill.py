"""kill -9 at any moment of an archive's read, a restore's fill and a sweep leaves nothing behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

# Hundreds of fsyncs, which are slow on a busy disk; kill -9 is no power cut.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - TemporaryDirectory makes a name
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def rounds():
    """A function that runs a scenario once for all tests, killed before each of its lines."""
    known: dict[str, list[dict[str, object]]] = {}

    def run(scenario: str) -> list[dict[str, object]]:
        if scenario not in known:
            with TemporaryDirectory(dir=MEMORY) as directory:
                command = [sys.executable, "-m", "tests.core.kill_lab", scenario, directory]
                done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
            assert done.returncode == 0, done.stderr
            known[scenario] = [json.loads(line) for line in done.stdout.splitlines()]
        return known[scenario]

    return run


SCENARIOS = ("read_snapshot", "fill_volume", "sweep")


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario_is_killed_many_times_and_ends_clean_alone(rounds, scenario):
    """The lab kills: rounds die, some leave things on the array; undisturbed, the scenario leaves none."""
    found = rounds(scenario)

    assert [r["killed"] for r in found] == [False] + [True] * (len(found) - 1)
    assert len(found) > 10
    assert sum(bool(r["left"]) for r in found) > 5
    assert found[0]["left"] == found[0]["swept"] == []


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_everything_temporary_is_named_in_the_journal(rounds, scenario):
    """At no moment is there a temporary object or a grant that no entry names."""
    assert [r["unnamed"] for r in rounds(scenario) if r["unnamed"]] == []


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_sweep_removes_all_of_it(rounds, scenario):
    """One sweep after the crash leaves the array as it was, and an empty journal."""
    for after in rounds(scenario):
        assert after["array"] == []
        assert after["journal"] == []


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_dry_run_tells_what_the_sweep_does(rounds, scenario):
    """What `--dry-run` lists is what the sweep then removes."""
    for after in rounds(scenario):
        assert after["planned"] == after["swept"]
