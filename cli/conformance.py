"""`bollard conformance …`: the suite that a vendor runs until it holds a verdict."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.markup import escape

from ..conformance.lab import DEEP_SECONDS
from ..conformance.model import Result, Tier, Verdict
from ..conformance.profiles import by_profile
from ..conformance.reports import junit_xml, result_json, write_reports, write_result
from ..conformance.run import RunOptions, run_suite, secrets_of_run
from ..core.redact import Redactor
from .checks import explain_check, list_checks
from .context import JsonFlag
from .ledgers import LedgerDirectory, clean_run, list_runs
from .output import out, print_json
from .reports import certify, diff_results, keygen, merge_results, verify

app = typer.Typer(help="Check a driver against the contract.", no_args_is_help=True)
app.command("checks")(list_checks)
app.command("explain")(explain_check)
app.command("merge")(merge_results)
app.command("diff")(diff_results)
app.command("keygen")(keygen)
app.command("certify")(certify)
app.command("verify")(verify)
app.command("clean")(clean_run)
app.command("runs")(list_runs)

# Beyond the error classes' own codes: the suite ran and the driver is not conformant.
NOT_CONFORMANT = 10


@app.callback()
def conformance() -> None:
    """Check a driver against the contract."""


@app.command()
def run(
    driver: Annotated[str, typer.Option(help="The driver's entry-point name.")] = "",
    config: Annotated[
        Path | None,
        typer.Option(help="TOML: driver, test_pool, [options], [store], [backend] …", dir_okay=False),
    ] = None,
    profile: Annotated[
        list[str] | None, typer.Option(help="Only this profile, and core; may be repeated.")
    ] = None,
    tier: Annotated[
        Tier,
        typer.Option(help="How much: static opens nothing, smoke takes a minute, standard gives a verdict."),
    ] = Tier.STANDARD,
    select: Annotated[
        list[str] | None, typer.Option(help="Only these checks: ids or patterns, e.g. 'vol.*,acl.read_only'.")
    ] = None,
    shard: Annotated[str, typer.Option(help="i/n: only each n-th check; join with `merge`.")] = "1/1",
    jobs: Annotated[int, typer.Option(help="Run so many checks side by side.")] = 1,
    seed: Annotated[int | None, typer.Option(help="Repeat the random choices of an earlier run.")] = None,
    deep_seconds: Annotated[
        float, typer.Option(help="Tier deep: spend so long on each check of long random histories.")
    ] = DEEP_SECONDS,
    in_process: Annotated[
        bool, typer.Option("--in-process", help="Run the driver in this process, for a debugger.")
    ] = False,
    output: Annotated[Path | None, typer.Option(help="Write result.json there.", dir_okay=False)] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML there.", dir_okay=False)] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Write report.html, result.json, JUnit, badges, evidence there.", file_okay=False),
    ] = None,
    ledger: LedgerDirectory = None,
    json: JsonFlag = False,
) -> None:
    """Run the suite. Exit code 0: nothing failed; 10: not conformant; anything else: it could not run."""
    options = RunOptions(
        tier=tier,
        select=tuple(select or ()),
        profiles=tuple(profile or ()),
        shard=shard,
        jobs=jobs,
        seed=seed,
        deep_seconds=deep_seconds,
        in_process=in_process,
        ledger=ledger,
        quiet=json,
    )
    with TemporaryDirectory(prefix="bollard-logs-") as logs:
        verdict = run_suite(driver, config, replace(options, logs=Path(logs) if report else None))
        if report is not None:
            secrets = secrets_of_run(driver, config)
            kept = sorted(Path(logs).iterdir())
            write_reports(verdict, report, redact=Redactor(secrets), secrets=secrets, logs=kept)
    if output is not None:
        write_result(verdict, output)
    if junit is not None:
        junit.write_bytes(junit_xml(verdict))
    if json:
        print_json(result_json(verdict))
    else:
        _show(verdict)
    if not verdict.clean:
        raise typer.Exit(NOT_CONFORMANT)


def _show(verdict: Verdict) -> None:
    """Print what a person works from: each finding with its sentence of the contract, then the verdict."""
    for outcome in verdict.outcomes:
        if outcome.result in (Result.FAIL, Result.KNOWN_FAIL, Result.ERROR):
            out.print(f"[bold red]{outcome.result}[/] [bold]{outcome.check.id}[/] \\[{outcome.check.rule}]")
            out.print(f"     {outcome.check.what}", style="dim", markup=False)
            out.print(f"     {outcome.message}", markup=False)
    refused = sorted({o.message for o in verdict.outcomes if o.result is Result.REFUSED})
    if refused:
        out.print(f"refused as it should be: {'; '.join(refused)}", markup=False)
    said = [f"{p.profile.title} {p.profile.version} {p.word}" for p in by_profile(verdict)]
    out.print(f"profiles: {'; '.join(said)}", markup=False)
    colour = "red" if not verdict.clean else "green" if verdict.complete else "yellow"
    out.print(f"[bold {colour}]{escape(verdict.line())}[/]")
