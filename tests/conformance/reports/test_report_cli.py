"""The commands around a result: exit code 0 for yes, 10 for no, and words that say why."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from bollard.cli import reports
from bollard.conformance.model import Result as CheckResult
from bollard.conformance.model import Verdict
from bollard.conformance.reports import environment, read_result, result_bytes, write_result
from bollard.core.spi import InvalidArgument

Maker = Callable[..., Verdict]
CHECK = "vol.new_reads_zero"

app = typer.Typer()
app.command("merge")(reports.merge_results)
app.command("diff")(reports.diff_results)
app.command("keygen")(reports.keygen)
app.command("certify")(reports.certify)
app.command("verify")(reports.verify)


def _run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(w) for w in words])


@pytest.fixture
def files(make_verdict: Maker, tmp_path: Path) -> Path:
    """A directory with a good and a bad result, and a key."""
    write_result(make_verdict(), tmp_path / "good.json")
    bad = {CHECK: {"result": CheckResult.FAIL, "message": "block 0 holds old data"}}
    write_result(make_verdict(change=bad), tmp_path / "bad.json")
    assert _run("keygen", "--out", tmp_path / "vendor.key").exit_code == 0
    return tmp_path


def test_certificate_from_end_to_end(files: Path) -> None:
    """keygen, certify and verify go together; another result does not match."""
    words = ["--result", files / "good.json", "--key", files / "vendor.key", "--out", files / "c.json"]
    issued = _run("certify", *words, "--backend", "ACME 5000")
    verified = _run(
        "verify", files / "c.json", "--result", files / "good.json", "--public-key", files / "vendor.key.pub"
    )
    other = _run("verify", files / "c.json", "--result", files / "bad.json", "--json")

    assert (issued.exit_code, verified.exit_code, other.exit_code) == (0, 0, 10)
    assert issued.stdout.startswith("CERTIFIED: acme-bollard 1.2: Core 1.0, Snapshots 1.0")
    assert verified.stdout.endswith("VALID\n")
    assert json.loads(other.stdout)["problems"] == [
        "it is about another result.json than this one, or this one was changed"
    ]


def test_not_installed(files: Path) -> None:
    """--installed asks for the artefact on this machine, and says so when it is another."""
    _run("certify", "--result", files / "good.json", "--key", files / "vendor.key", "--out", files / "c.json")
    found = _run("verify", files / "c.json", "--installed")

    assert found.exit_code == 10
    assert "nothing of it is installed here" in found.stdout
    assert "whose that is was not asked" in found.stderr
    assert found.stdout.endswith("NOT VALID\n")


def test_refused_with_reasons(files: Path) -> None:
    """A refusal names each check in the way with its sentence and message, and writes nothing."""
    words = ["--result", files / "bad.json", "--key", files / "vendor.key", "--out", files / "c.json"]
    found = _run("certify", *words)

    assert found.exit_code == 10
    assert f"fail {CHECK}: " in found.stdout
    assert "block 0 holds old data" in found.stdout
    assert "REFUSED: 1 thing in the way" in found.stdout
    assert not (files / "c.json").exists()


def test_everything_can_be_read_by_a_program(files: Path) -> None:
    """keygen, certify (issued or refused) and merge print one JSON document with --json."""
    words = ["--key", files / "vendor.key", "--out", files / "c.json", "--json"]
    keys = json.loads(_run("keygen", "--out", files / "other.key", "--json").stdout)
    issued = json.loads(_run("certify", "--result", files / "good.json", *words).stdout)
    refused = _run("certify", "--result", files / "bad.json", *words)
    whole = json.loads(_run("merge", files / "good.json", "--output", files / "w.json", "--json").stdout)

    assert keys == {"private_key": f"{files}/other.key", "public_key": f"{files}/other.key.pub"}
    assert (issued["issued"], issued["certificate"]) == (True, f"{files}/c.json")
    assert refused.exit_code == 10
    [obstacle] = json.loads(refused.stdout)["obstacles"]
    assert (obstacle["check"], obstacle["message"]) == (CHECK, "block 0 holds old data")
    assert whole["conformant"] is True


def test_another_suite_cannot_certify(make_verdict: Maker, files: Path) -> None:
    """A result of another version of the suite is certified by that one."""
    other = dataclasses.replace(environment(), suite="0.0.9")
    (files / "old.json").write_bytes(result_bytes(make_verdict(), other))
    found = _run(
        "certify", "--result", files / "old.json", "--key", files / "vendor.key", "--out", files / "c"
    )

    assert isinstance(found.exception, InvalidArgument)
    assert "certify with the suite that ran" in str(found.exception)


def test_runs_without_an_artefact(make_verdict: Maker, files: Path) -> None:
    """What is in the way of the run as a whole is told as a sentence of its own."""
    write_result(make_verdict(artefact=""), files / "local.json")
    found = _run(
        "certify", "--result", files / "local.json", "--key", files / "vendor.key", "--out", files / "c"
    )

    assert found.exit_code == 10
    assert found.stdout.startswith("nothing to bind it to")


def test_diff(files: Path) -> None:
    """Diff ends with 10 on a regression, with 0 on a fix, and shows both."""
    worse = _run("diff", files / "good.json", files / "bad.json")
    better = _run("diff", files / "bad.json", files / "good.json")
    told = json.loads(_run("diff", files / "good.json", files / "bad.json", "--json").stdout)

    assert (worse.exit_code, better.exit_code) == (10, 0)
    assert f"worse: {CHECK}: pass -> fail\n     block 0 holds old data" in worse.stdout
    assert f"better: {CHECK}: fail -> pass" in better.stdout
    assert [c["id"] for c in told["regressions"]] == [CHECK]


def test_diff_shows_new_checks_and_figures(make_verdict: Maker, files: Path) -> None:
    """Diff names checks that only one result has, and figures that moved."""
    sample = make_verdict(broken=True)
    faster = [
        dataclasses.replace(o, measures=tuple(dataclasses.replace(m, value=m.value / 2) for m in o.measures))
        for o in sample.outcomes
        if o.check.id != CHECK
    ]
    write_result(sample, files / "a.json")
    write_result(dataclasses.replace(sample, outcomes=tuple(faster)), files / "b.json")
    found = _run("diff", files / "a.json", files / "b.json").stdout

    assert f"removed: {CHECK} (pass)" in found
    assert "figure: pool.capacity_sane, create, median: 18.25 -> 9.125 ms (-50 %)" in found


def test_merge(make_verdict: Maker, files: Path) -> None:
    """Merge writes the whole run's result, whose verdict decides the exit code."""
    whole = make_verdict()
    for index in range(2):
        outcomes = tuple(
            o if i % 2 == index else dataclasses.replace(o, result=CheckResult.NOT_RUN)
            for i, o in enumerate(whole.outcomes)
        )
        write_result(dataclasses.replace(whole, outcomes=outcomes), files / f"{index}.json")
    merged = _run("merge", files / "0.json", files / "1.json", "--output", files / "whole.json")
    half = _run("merge", files / "0.json", "--output", files / "half.json")

    assert (merged.exit_code, half.exit_code) == (0, 10)
    assert read_result(files / "whole.json").verdict.conformant
    assert half.stdout.startswith("INCOMPLETE")
