"""`make mutants`: run the suite against every mutant, and say how many die and which checks kill.

.venv/bin/python tests/mutants/run.py [--jobs 2] [--only ID ...] [--verdicts DIRECTORY] [--json FILE]

A driver and a backend without a defect must pass what kills the mutants. Where such a run is at hand already
(BACKEND.json in DIRECTORY, from tests/conformance/test_suite_verdicts.py) only what it leaves open is run.

Whoever survives is run once more, alone: a check that looks for a race meets it by chance. It is said, and a
mutant that survives twice is a survivor.

Exit code 0: all die, each MUST check kills. 1: not, and each exception is named with what was run.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "lib"))  # hypervisor_rig; pytest has it by itself

from catalogue import Mutant, all_mutants, must_checks, run_wide
from score import Score, Trial, findings
from suite import Run, joined, run_suite, told

_PART = 30  # checks of a healthy run


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print and return the exit code."""
    given = _parser().parse_args(argv)
    mutants = _chosen(all_mutants(), given.only)
    _silence()
    trials = try_all(mutants, given.jobs, given.verdicts)
    # Of a part of the mutants nobody can say which checks kill nothing.
    musts = must_checks() if not given.only else frozenset(c for m in mutants for c in m.killed_by)
    score = Score(trials=trials, musts=musts)
    if given.json is not None:
        text = json.dumps(score.to_json(version("bollard")), indent=1, ensure_ascii=False)
        given.json.write_text(text + "\n", encoding="utf-8")
    return report(score)


def report(score: Score) -> int:
    """Print what is wrong and the score; return the exit code."""
    for finding in findings(score.trials, score.idle):
        sys.stdout.write(f"{finding}\n")
    sys.stdout.write(f"{score.line()}\n")
    return 0 if score.perfect else 1


def try_all(mutants: Sequence[Mutant], jobs: int, verdicts: Path | None = None) -> tuple[Trial, ...]:
    """Run the suite on each mutant, and once on each thing that is the same without a defect.

    Args:
        verdicts: directory with results of such runs.
    """
    twins = healthy_twins(mutants)
    known = {key: known_run(twin, verdicts) for key, twin in twins.items()}
    # Not fork: the parent has no threads now, but a backend in a worker does.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_silence) as pool:
        healthy = {
            key: [pool.submit(run_suite, part) for part in parts(twin, known[key])]
            for key, twin in twins.items()
        }
        broken = [pool.submit(run_suite, mutant) for mutant in mutants]
        trials = []
        for number, (mutant, future) in enumerate(zip(mutants, broken, strict=True), 1):
            key = _key(mutant)
            fine = joined([known[key], *(part.result() for part in healthy[key])])
            trial = Trial(mutant=mutant, broken=future.result(), healthy=fine)
            trials.append(trial)
            _tell(trial, number, len(mutants))
    return tuple(once_more(trial) for trial in trials)


def once_more(trial: Trial) -> Trial:
    """Return a trial that stands, or what a second one says where the first one was wrong."""
    if not trial.problems:
        return trial
    broken, healthy = run_suite(trial.mutant), run_suite(trial.mutant.healthy)
    sys.stdout.write(f"AGAIN {trial.mutant.id}: {'; '.join(trial.problems)[:300]}\n")
    return Trial(mutant=trial.mutant, broken=broken, healthy=healthy)


def known_run(twin: Mutant, verdicts: Path | None) -> Run:
    """Return what is known of a twin from before: only of our own driver as everybody configures it."""
    path = verdicts / f"{twin.backend}.json" if verdicts is not None else None
    if path is None or twin.driver or twin.options or not path.exists():
        return Run()
    run = told(json.loads(path.read_text(encoding="utf-8")))
    passed = {check: result for check, result in run.results.items() if result == "pass"}
    return Run(results=passed, command=f"tests/conformance/test_suite_verdicts.py -k {twin.backend}")


def _silence() -> None:
    """Keep what a simulator logs about a mutant's broken connections from the terminal."""
    logging.getLogger("bollard.simulators").addHandler(logging.NullHandler())
    logging.getLogger("bollard.simulators").propagate = False
    logging.getLogger("werkzeug").propagate = False


def healthy_twins(mutants: Iterable[Mutant]) -> Mapping[object, Mutant]:
    """Return what is to be run without defects, each with the checks of all its mutants."""
    twins: dict[object, Mutant] = {}
    for mutant in mutants:
        key = _key(mutant)
        twin = twins.get(key, replace(mutant.healthy, killed_by=(), during=()))
        checks = {*twin.killed_by, *mutant.killed_by, *mutant.during}
        twins[key] = replace(twin, killed_by=tuple(sorted(checks)))
    return twins


def parts(twin: Mutant, known: Run = Run()) -> list[Mutant]:  # noqa: B008 - it cannot be changed
    """Return a twin as several with a part of its checks each: all jobs share the 270 of an array.

    Args:
        known: what has passed already, and is not run again.
    """
    chosen = {*twin.killed_by, *twin.during}
    wide = tuple(sorted(chosen & run_wide()))
    named = sorted(chosen - run_wide() - known.results.keys())
    slices = [tuple(named[i :: -(-len(named) // _PART)]) for i in range(-(-len(named) // _PART))]
    # The results of a whole run come with each part, and a leak may show in any of them.
    return [replace(twin, killed_by=(*one, *wide), during=()) for one in slices]


def _key(mutant: Mutant) -> object:
    twin = mutant.healthy
    return twin.backend, twin.driver, twin.options


def _tell(trial: Trial, number: int, total: int) -> None:
    state = f"killed by {', '.join(trial.killers)}" if trial.killers else "SURVIVES"
    told = "".join(f"\n    {problem[:200]}" for problem in trial.problems)
    line = f"[{number:3}/{total}] {trial.broken.seconds:5.1f} s  {trial.mutant.id}: {state}{told}"
    sys.stderr.write(f"{line}\n")


def _chosen(mutants: Sequence[Mutant], only: Sequence[str]) -> Sequence[Mutant]:
    unknown = set(only) - {m.id for m in mutants}
    if unknown:
        raise SystemExit(f"no mutant is called {', '.join(sorted(unknown))}")
    return [m for m in mutants if not only or m.id in only]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run the conformance suite against its mutants.")
    parser.add_argument("--jobs", type=int, default=2, help="suites at the same time")
    parser.add_argument("--only", action="append", default=[], help="id of a mutant; repeatable")
    parser.add_argument("--verdicts", type=Path, default=None, help="directory with results of healthy runs")
    parser.add_argument("--json", type=Path, default=None, help="write the score there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
