"""The conformance suite on a real cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ceph_lab import CephLab
from rbd_rig import options_of, what_is_kept

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(1800)]
# Half a minute; standard takes several, in `make long`.
TIER = "standard" if os.environ.get("BOLLARD_LONG") else "smoke"


def test_the_suite_finds_nothing(lab: CephLab, tmp_path: Path) -> None:
    """Every check of the tier passes or does not apply, and nothing is left in the cluster."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in options_of(lab).items()]
    config, result = tmp_path / "c.toml", tmp_path / "result.json"
    config.write_text("\n".join(['driver = "rbd"', "test_pool = true", "[options]", *lines]))
    bollard = str(Path(sys.executable).with_name("bollard"))
    command = [bollard, "conformance", "run", "--config", str(config)]
    command += ["--tier", TIER, "--output", str(result), "--ledger", str(tmp_path / "ledger")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1700, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(result.read_text())["counts"]
    assert counts["pass"] > 60
    assert not counts.get("fail", 0) + counts.get("error", 0)
    assert what_is_kept(lab) == set()
