"""The score is arithmetic, and whatever spoils it is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import run
from bollard.conformance.model import Tier
from bollard.conformance.reports import mutation_score
from catalogue import Mutant, known_checks, run_wide
from score import Score, Trial, findings
from suite import Run, joined, selected, tier_of

HEALTHY = Run(results={"a.one": "pass", "a.two": "pass"})


def trial(name: str = "m", healthy: Run = HEALTHY, **results: str) -> Trial:
    """A trial of a mutant that `a.one` should kill, with these results by the check's second word."""
    mutant = Mutant(id=name, backend="array", killed_by=("a.one",), words="lost", field_bug="x#1")
    messages = {f"a.{check}": "a block is lost" for check in results}
    broken = Run(results={f"a.{c}": r for c, r in results.items()}, messages=messages, command="run it")
    return Trial(mutant=mutant, broken=broken, healthy=healthy)


def test_failing_check_kills() -> None:
    """A check that fails on the mutant and passes without the defect kills it."""
    found = trial(one="fail")
    assert found.killers == ("a.one",)
    assert found.problems == []


@pytest.mark.parametrize("result", ["error", "pass", "refused", "not-run"])
def test_anything_else_kills_nothing(result: str) -> None:
    """An error is the suite's or the environment's, and no verdict on the driver."""
    found = trial(one=result)
    assert found.killers == ()
    assert result in found.problems[0]


def test_check_that_fails_without_the_defect_kills_nothing() -> None:
    """A check that accuses healthy drivers proves nothing."""
    found = trial(healthy=Run(results={"a.one": "fail"}), one="fail")
    assert found.killers == ()
    assert "a.one is fail without the defect" in found.problems[0]


def test_other_words_are_told() -> None:
    """A check that fails for another reason than the defect is no proof that it sees the defect."""
    found = trial(one="fail")
    other = Trial(
        mutant=found.mutant,
        broken=Run(results={"a.one": "fail"}, messages={"a.one": "no route"}),
        healthy=HEALTHY,
    )
    assert "no message says 'lost'" in other.problems[0]


def test_score_of_a_perfect_suite() -> None:
    """All checks kill and all mutants die: 100%, and exit code 0."""
    score = Score(trials=(trial(one="fail"),), musts=frozenset({"a.one"}))
    assert score.line() == "mutation score: checks 100% (1/1), mutants 100% (1/1)"
    assert run.report(score) == 0


def test_survivor_and_idle_check_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    """Who survives, what was run, and which check kills nothing stands there; the exit code is 1."""
    trials = (trial(one="fail"), trial("survivor", one="pass"))
    score = Score(trials=trials, musts=frozenset({"a.one", "a.two"}))
    assert run.report(score) == 1
    said = capsys.readouterr().out
    assert "SURVIVES survivor: a.one: pass" in said
    assert "ran: run it" in said
    assert "KILLS NOTHING a.two" in said
    assert said.endswith("mutation score: checks 50% (1/2), mutants 50% (1/2)\n")


def test_score_is_rounded_down() -> None:
    """999 of 1000 is not all."""
    musts = frozenset(f"a.{n}" for n in range(999)) | {"a.one"}
    score = Score(trials=tuple(trial(str(n), one="fail") for n in range(2)), musts=musts)
    assert "checks 0% (1/1000)" in score.line()


def test_run_without_a_result_is_told() -> None:
    """A suite that ended badly is a problem of its own, with what it said."""
    ended = Trial(mutant=trial().mutant, broken=Run(problem="exit code 2: no such option"), healthy=HEALTHY)
    assert findings([ended], [])[0].startswith("SURVIVES m: exit code 2: no such option")


def test_score_file_has_what_reports_show() -> None:
    """Counts, mutants by check and checks by mutant are there, and the suite's version."""
    found = Score(trials=(trial(one="fail"),), musts=frozenset({"a.one"})).to_json("1.2")
    assert json.loads(json.dumps(found)) == found
    assert found["suite"] == "1.2"
    assert found["mutants"] == {"total": 1, "killed": 1}
    assert found["by_check"] == {"a.one": ["m"]}
    assert found["by_mutant"]["m"]["killers"] == ["a.one"]


def test_reports_read_the_score_file(tmp_path: Path) -> None:
    """What `run.py --json` writes is what a report shows."""
    found = Score(trials=(trial(one="fail"), trial("s", one="pass")), musts=frozenset({"a.one", "a.two"}))
    path = tmp_path / "score.json"
    path.write_text(json.dumps(found.to_json("1.2")))
    read = mutation_score(path)
    assert read is not None
    assert (read.checks, read.mutants) == ((1, 2), (1, 2))
    assert read.by_check["a.one"] == ("m",)


def test_healthy_twins_are_run_once() -> None:
    """Mutants of one backend share the run without a defect, and each check of theirs is in it."""
    one = Mutant(id="1", backend="array", killed_by=("vol.overwrite",), defect="x", field_bug="b")
    two = Mutant(id="2", backend="array", killed_by=("vol.size_seen",), driver="m:C", field_bug="b")
    (twin,) = run.healthy_twins([one, two]).values()
    assert twin.killed_by == ("vol.overwrite", "vol.size_seen")
    assert (twin.defect, twin.driver) == ("", "")


def test_healthy_runs_are_shared_out() -> None:
    """The parts of a healthy run have all checks once, the results of whole runs each, and join to one."""
    named = tuple(sorted(known_checks().keys() - run_wide()))[:70]
    twin = Mutant(id="t", backend="array", killed_by=("leak.volumes",), during=named, field_bug="")
    found = run.parts(twin)
    assert sorted(c for part in found for c in selected(part)) == list(named)
    assert all("leak.volumes" in part.killed_by for part in found)
    first = Run(results={"a": "pass", "b": "not-run", "leak": "fail"})
    second = Run(results={"a": "not-run", "b": "pass", "leak": "pass"})
    assert joined([first, second]).results == {"a": "pass", "b": "pass", "leak": "fail"}


def test_what_has_passed_is_not_run_again(tmp_path: Path) -> None:
    """A result from before spares our own driver its checks, those that passed and no others."""
    checks = [
        {"id": "vol.overwrite", "result": "pass"},
        {"id": "vol.size_seen", "result": "fail", "message": "x"},
    ]
    (tmp_path / "array.json").write_text(json.dumps({"checks": checks}))
    both = ("vol.overwrite", "vol.size_seen")
    twin = Mutant(id="t", backend="array", killed_by=both, field_bug="")
    known = run.known_run(twin, tmp_path)
    assert known.results == {"vol.overwrite": "pass"}
    assert [selected(part) for part in run.parts(twin, known)] == [["vol.size_seen"]]
    for other in (
        replace(twin, backend="s3"),
        replace(twin, driver="m:C"),
        replace(twin, options=(("a", "1"),)),
    ):
        assert run.known_run(other, tmp_path) == run.known_run(twin, None) == Run()


def test_a_survivor_is_tried_once_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second trial counts, whatever it says, and is told of; who dies is not tried again."""
    good, bad = trial(one="fail"), trial(one="pass")
    assert run.once_more(good) is good
    for second, killers in ((good.broken, ("a.one",)), (bad.broken, ())):
        runs = iter([second, HEALTHY])
        monkeypatch.setattr(run, "run_suite", lambda _, runs=runs: next(runs))
        assert run.once_more(bad).killers == killers
        assert "AGAIN m: a.one: pass" in capsys.readouterr().out


def test_results_of_whole_runs_are_not_selected() -> None:
    """What nobody can select comes with the occasion; the tier is the least that runs all."""
    mutant = Mutant(
        id="1",
        backend="array",
        killed_by=("leak.volumes", "vol.list_complete"),
        during=("vol.overwrite",),
        field_bug="b",
    )
    assert selected(mutant) == ["vol.list_complete", "vol.overwrite"]
    assert tier_of(["vol.overwrite"]) is Tier.SMOKE
    assert tier_of(selected(mutant)) is Tier.STANDARD


def test_unknown_mutant_is_refused(tmp_path: Path) -> None:
    """A misspelt --only is told, and nothing is run."""
    with pytest.raises(SystemExit, match="no mutant is called nobody"):
        run.main(["--only", "nobody", "--json", str(tmp_path / "score.json")])
