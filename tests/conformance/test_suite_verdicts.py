"""The suite passes good drivers; that it finds bad ones is shown by the mutants (tests/mutants).

With BOLLARD_VERDICTS the results go into that directory: the mutants need the same runs, of drivers and
backends without a defect, and CI has no eight minutes for a second one (tests/mutants/run.py --verdicts).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backends import started
from catalogue import Mutant

# What an own driver is allowed not to hold, and why.
TOLERATED = {
    "static.import_is_cheap",  # 0.17 s of 0.3 s on a quiet machine; here others work beside it
}
OWN = ("array", "qcow2", "nfs", "s3", "swift", "hypervisor", "bmc", "openipmi", "redfish")


def _run(backend: str, home: Path, seconds: int, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run the suite as a vendor does, and return exit code and result."""
    with started(Mutant(id="none", backend=backend, killed_by=(), field_bug=""), home) as target:
        target.write(home / "c.toml", disruptive=False)
        command = [sys.executable, "-m", "bollard", "conformance", "run", "--json"]
        command += ["--config", str(home / "c.toml"), "--ledger", str(home / "ledger"), *arguments]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env=target.environment(),
        )
    assert done.stdout, done.stderr
    result = json.loads(done.stdout)
    # Together: under load a run of swift left one entry, and nobody saw of which check.
    assert (list((home / "ledger").iterdir()), _broken(result)) == ([], {})
    return done.returncode, result


def _broken(result: dict[str, Any]) -> dict[str, str]:
    fine = ("pass", "refused", "not-applicable", "not-run")
    found = {c["id"]: c["message"] for c in result["checks"] if c["result"] not in fine}
    return {name: message for name, message in found.items() if name not in TOLERATED}


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.timeout(1560)
@pytest.mark.parametrize("backend", OWN)
def test_own_drivers_are_conformant(backend: str, tmp_path: Path) -> None:
    """Each of our drivers passes tier standard, and leaves nothing behind."""
    # No measure of speed: another test has the other core, and the array's run took over 600 s beside it.
    code, result = _run(backend, tmp_path, 1500)

    assert code == 0
    assert result["verdict"].startswith("CONFORMANT: ")
    assert result["counts"]["not-run"] == 0
    if directory := os.environ.get("BOLLARD_VERDICTS"):
        Path(directory, f"{backend}.json").write_text(json.dumps(result), encoding="utf-8")


@pytest.mark.real
def test_nothing_fails_in_smoke(tmp_path: Path) -> None:
    """Nothing fails in tier smoke of a host driver; all drivers' smoke is in their tier standard."""
    code, _ = _run("qcow2", tmp_path, 240, "--tier", "smoke")

    assert code == 0
