"""Running the suite on one mutant as a vendor would, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from backends import started
from bollard.conformance.model import Tier
from catalogue import Mutant, known_checks, run_wide
from launch import bollard

# Seconds for a run and for each of its checks: longer than the default deadline of a call, so that a check
# which hangs still ends by itself; a healthy backend is run with a hundred of them.
_START, _EACH = 120.0, 10.0
# For each check of long random histories: on a mutant they end sooner, on its healthy twin they would not.
_DEEP = 20
_SHOWN = 600  # characters of what the suite printed, when there is no result


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What the suite said.

    Attributes:
        results: "pass", "fail", "error" ... by check.
        messages: of the checks that did not pass.
        command: what was run.
        problem: why there are no results, or "".
    """

    results: Mapping[str, str] = field(default_factory=dict)
    messages: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    command: str = ""
    problem: str = ""


def run_suite(mutant: Mutant) -> Run:
    """Run the checks that are to find a mutant against it."""
    begin = time.monotonic()
    with TemporaryDirectory(prefix="bollard-mutant-") as directory:
        home = Path(directory)
        with started(mutant, home) as target:
            config = home / "mutant.toml"
            chosen = selected(mutant)
            tier = tier_of(chosen)
            target.write(config, disruptive=tier is Tier.DISRUPTIVE)
            command = ["conformance", "run", "--json", f"--driver={target.driver}"]
            command += [f"--ledger={home / 'ledger'}", f"--tier={tier}", f"--deep-seconds={_DEEP}"]
            command += [f"--select={check}" for check in chosen]
            command += [] if mutant.backend == "static" else [f"--config={config}"]
            limit = _START + _EACH * len(chosen)
            # What is patched or edited must be so before the suite is imported.
            fresh = bool(mutant.patch or mutant.edit[0])
            try:
                done = bollard(command, target.environment(), home, timeout=limit, fresh=fresh)
                run = _read(done)
            except subprocess.TimeoutExpired:
                run = Run(problem=f"the suite took more than {limit:.0f} s")
    return Run(
        results=run.results,
        messages=run.messages,
        seconds=time.monotonic() - begin,
        command=f"bollard {' '.join(command)}",
        problem=run.problem,
    )


def joined(runs: Sequence[Run]) -> Run:
    """Return the runs of several parts as one; what did not pass in one of them did not pass."""
    results: dict[str, str] = {}
    for check, result in (pair for run in runs for pair in run.results.items()):
        if result != "not-run" and results.get(check, "pass") == "pass":
            results[check] = result
    return Run(
        results=results,
        messages={check: text for run in runs for check, text in run.messages.items()},
        seconds=sum(run.seconds for run in runs),
        command=" ; ".join(run.command for run in runs),
        problem=" ; ".join(run.problem for run in runs if run.problem),
    )


def selected(mutant: Mutant) -> list[str]:
    """Return the checks that the suite is told to run; results of whole runs come anyway."""
    return sorted({*mutant.killed_by, *mutant.during} - run_wide())


def tier_of(checks: Iterable[str]) -> Tier:
    """Return the least tier that runs them all."""
    known = known_checks()
    tiers = [known[check].tier for check in checks]
    return next(t for t in Tier if all(t.includes(other) for other in tiers))


def _read(done: subprocess.CompletedProcess[str]) -> Run:
    """Read the results that the suite has printed."""
    try:
        return told(json.loads(done.stdout))
    except (ValueError, KeyError):  # no JSON, or the JSON of an error
        said = (done.stderr or done.stdout)[-_SHOWN:].strip()
        return Run(problem=f"no result, exit code {done.returncode}: {said}")


def told(result: Mapping[str, Any]) -> Run:
    """Return what a `result.json` says.

    Raises:
        KeyError: it is none.
    """
    checks = result["checks"]
    return Run(
        results={c["id"]: c["result"] for c in checks},
        messages={c["id"]: c["message"] for c in checks if c["result"] != "pass"},
    )
