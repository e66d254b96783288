"""`bollard conformance runs` and `clean`: what killed runs of the suite left, and removing it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ..conformance.clean import Removal, clean, open_place, settings_for
from ..conformance.ledger import Contents, Ledger, default_directory, ledger_path, ledgers, read
from ..conformance.settings import load_settings
from ..core.spi import InvalidArgument
from .context import JsonFlag
from .output import err, out, print_json, show_rows

LedgerDirectory = Annotated[
    Path | None, typer.Option("--ledger", help="Where the ledgers are.", file_okay=False)
]


def list_runs(ledger: LedgerDirectory = None, json: JsonFlag = False) -> None:
    """List the runs that left something behind, or are still going on."""
    rows = [
        {
            "run": path.stem,
            "driver": contents.driver,
            "started": contents.started,
            "objects": len(contents.intents),
            "state": "running" if running else "dead",
        }
        for path, contents, running in ledgers(ledger or default_directory())
    ]
    show_rows(rows, as_json=json, empty="No run left anything behind.")


def clean_run(
    run: Annotated[str, typer.Option(help="The run's id, see `bollard conformance runs`.")],
    config: Annotated[
        Path | None, typer.Option(help="The run's configuration, if it is elsewhere now.", dir_okay=False)
    ] = None,
    ledger: LedgerDirectory = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    json: JsonFlag = False,
) -> None:
    """Remove what a killed run left: only what its ledger names. Repeat it until it says that all is gone."""
    path = ledger_path(ledger or default_directory(), run)
    removals: list[Removal] = []
    if not path.exists():  # cleaned before; but with another --ledger that would not be so
        err.print(f"There is no {path}: the run left nothing, or its ledger is elsewhere.", markup=False)
    else:
        removals = _planned(path) if dry_run else _clean(path, config)
    if json:
        print_json([asdict(removal.intent) | {"problem": removal.problem} for removal in removals])
    else:
        _show(removals, "would be removed" if dry_run else "is gone")
    if any(removal.problem for removal in removals):
        raise typer.Exit(1)


def _planned(path: Path) -> list[Removal]:
    return [Removal(intent=intent) for intent in reversed(read(path).intents)]


def _clean(path: Path, config: Path | None) -> list[Removal]:
    ledger = Ledger.reopen(path)
    if not ledger.contents.intents:
        ledger.finish()  # it died before it made anything, or after all was removed
        return []
    with ExitStack() as stack:
        stack.callback(ledger.close)
        given = load_settings("", _config(ledger.contents, config), default=ledger.contents.driver)
        return clean(ledger, open_place(settings_for(ledger.contents, given), stack))


def _config(contents: Contents, given: Path | None) -> Path:
    if given is None and not contents.config:
        raise InvalidArgument("the run had no configuration file: name one with --config")
    return given or Path(contents.config)


def _show(removals: list[Removal], word: str) -> None:
    for removal in removals:
        out.print(removal.problem or f"{removal.intent} {word}", markup=False, soft_wrap=True)
    left = sum(bool(removal.problem) for removal in removals)
    if left:
        out.print(f"{left} of {len(removals)} are left; the ledger stays.")
    elif not removals:
        out.print("Nothing to remove.")
