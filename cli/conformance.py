"""`bollard conformance …`: the suite that a vendor runs until it holds a verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from ..conformance.model import Result, Tier, Verdict
from ..conformance.report import result_json, write_result
from ..conformance.run import run_suite
from .context import JsonFlag
from .ledgers import LedgerDirectory, clean_run, list_runs
from .output import err, out, print_json

app = typer.Typer(help="Check a driver against the contract.", no_args_is_help=True)
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
        typer.Option(help="TOML: driver, test_pool, [options], [store].", dir_okay=False),
    ] = None,
    tier: Annotated[
        Tier, typer.Option(help="How much: static opens nothing, smoke takes a minute, standard is all.")
    ] = Tier.STANDARD,
    select: Annotated[str, typer.Option(help="Only checks that match, as pytest's -k.")] = "",
    output: Annotated[Path | None, typer.Option(help="Write result.json there.", dir_okay=False)] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML there.", dir_okay=False)] = None,
    ledger: LedgerDirectory = None,
    json: JsonFlag = False,
) -> None:
    """Run the suite. Exit code 0: conformant; 10: not; anything else: the suite could not run."""
    verdict = run_suite(driver, config, tier=tier, select=select, junit=junit, ledger=ledger, quiet=json)
    if output is not None:
        write_result(verdict, output)
    if json:
        print_json(result_json(verdict))
    else:
        _show(verdict)
    if not verdict.outcomes:
        err.print("No check ran: does --select match anything?")
    if not verdict.conformant:
        raise typer.Exit(NOT_CONFORMANT)


def _show(verdict: Verdict) -> None:
    """Print what a person works from: each finding with its sentence of the contract, then the verdict."""
    for outcome in verdict.outcomes:
        if outcome.result in (Result.FAIL, Result.ERROR):
            out.print(f"[bold red]{outcome.result}[/] [bold]{outcome.check.id}[/] \\[{outcome.check.rule}]")
            out.print(f"     {outcome.check.what}", style="dim", markup=False)
            out.print(f"     {outcome.message}", markup=False)
    refused = sorted({o.message for o in verdict.outcomes if o.result is Result.REFUSED})
    if refused:
        out.print(f"refused as it should be: {'; '.join(refused)}", markup=False)
    colour = "green" if verdict.conformant else "red"
    out.print(f"[bold {colour}]{escape(verdict.line())}[/]")
