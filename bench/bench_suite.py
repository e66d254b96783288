"""How long the conformance suite takes on our own drivers, beside the limits that were promised.

    python bench/bench_suite.py [smoke|standard] [backend ...]

Each run is a vendor's, `bollard conformance run --tier …`, against a fresh simulator or directory. CPU is
that of the suite and its driver hosts. Ends with 1 if a run exceeds its limit or is not conformant.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests"
sys.path += [str(TESTS / "mutants"), str(TESTS / "lib")]

from backends import started  # noqa: E402 - after the path to it
from catalogue import Mutant  # noqa: E402 - likewise

LIMITS = {"smoke": 60.0, "standard": 600.0}  # seconds, on 2 cores with nothing beside
BACKENDS = ("array", "qcow2", "nfs", "s3", "swift", "hypervisor")


def run(backend: str, tier: str) -> bool:
    """Run one tier on one backend, print what it took, and tell whether it kept its limit."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        with started(Mutant(id="none", backend=backend, killed_by=(), field_bug=""), home) as target:
            target.write(home / "c.toml", disruptive=False)
            command = [sys.executable, "-m", "bollard", "conformance", "run", "--json", "--tier", tier]
            command += ["--config", str(home / "c.toml"), "--ledger", str(home / "ledger")]
            before, began = _cpu(), time.monotonic()
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, env=target.environment()
            )
            seconds, cpu = time.monotonic() - began, _cpu() - before
    limit = LIMITS[tier]
    verdict = json.loads(done.stdout)["verdict"]
    print(f"{tier:9} {backend:11} {seconds:6.1f} s  CPU {cpu:6.1f} s  limit {limit:.0f} s  {verdict[:70]}")
    return done.returncode == 0 and seconds <= limit


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    """Run what was asked for."""
    asked = sys.argv[1:]
    tiers = [tier for tier in LIMITS if tier in asked] or list(LIMITS)
    backends = [backend for backend in BACKENDS if backend in asked] or list(BACKENDS)
    kept = [run(backend, tier) for tier in tiers for backend in backends]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
