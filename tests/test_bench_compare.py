"""The comparison with peers runs, and its rows have the shape that others read."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[1] / "bench"
ROW: dict[str, Any] = {
    "case": "full, text",
    "kind": "peer",
    "against": "rclone",
    "ratio": 1.5,
    "peak_mib": 80.0,
    "runs": 3,
}


@pytest.fixture(scope="module")
def problems() -> Callable[[Any], list[str]]:
    """What `compare.py` looks at its result with; bench/ is no package."""
    spec = importlib.util.spec_from_file_location("bench_rows", BENCH / "rows.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    found: Callable[[Any], list[str]] = module.problems
    return found


@pytest.mark.slow
@pytest.mark.real
def test_a_tiny_comparison(tmp_path: Path, problems: Callable[[Any], list[str]]) -> None:
    """One image of a few MiB, one peer on each store: every row is there, with ratio, memory and runs."""
    output = tmp_path / "rows.json"
    command = [sys.executable, BENCH / "compare.py", "--rounds", "1", "--group", "text", "--output", output]
    command += ["--against", "nbdcopy", "virtnbdbackup-like + rclone"]
    env = {**os.environ, "BENCH_SCALE": "0.001", "PATH": os.environ["PATH"]}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=env)
    assert done.returncode == 0, done.stderr
    document = json.loads(output.read_text())
    assert problems(document) == []
    told = {(row["kind"], row["against"]) for row in document["rows"] if row["kind"] != "scale"}
    assert told == {
        ("peer", "nbdcopy"),
        ("peer", "virtnbdbackup-like + rclone"),
        ("limit", "reading the data"),
        ("limit", "SHA-256 on all cores"),
        ("limit", "raw upload"),
        ("memory", "256 MiB"),
    }


def test_the_results_that_are_kept_have_the_shape(problems: Callable[[Any], list[str]]) -> None:
    """What lies in bench/results is what its readers expect."""
    assert problems(json.loads((BENCH / "results" / "latest.json").read_text())) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"case": ""},
        {"kind": "feeling"},
        {"against": None},
        {"ratio": None},
        {"ratio": "1.5"},
        {"ratio": -1.0},
        {"peak_mib": None},
        {"runs": -1},
    ],
)
def test_a_row_of_another_shape_is_told(problems: Callable[[Any], list[str]], wrong: dict[str, Any]) -> None:
    """Each member that is missing or of another kind is a problem; a missing peer has a note instead."""
    about = {"cpus": 2}
    assert problems({"machine": about, "rows": [ROW]}) == []
    assert problems({"machine": about, "rows": [{**ROW, "ratio": None, "runs": 0, "note": "missing"}]}) == []
    assert len(problems({"machine": about, "rows": [ROW, {**ROW, **wrong}]})) == 1
    assert problems({"rows": [ROW]})
    assert problems({"machine": about, "rows": []})
