"""The pytest side of the suite: `pytest --bollard-driver=acme --bollard-config=acme.toml`.

A check is collected like a test function; pytest's -k, -x, --pdb, --junitxml and xdist's -n work as always.
What a check needs is made by `fixtures.py`; what became of it is judged by `judge.py`.
"""

from __future__ import annotations

import dataclasses
import importlib
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ..core.plugins import PluginError, kind_of, load_driver
from ..core.spi import StorageError
from . import fixtures
from .calls import CallLog
from .judge import judge_call, with_known
from .lab import Notes
from .model import Check, Outcome, Result, Tier
from .plain import dump_outcome, joined, load_outcome
from .registry import ATTRIBUTE, CHECKS, checks_by_module
from .reproducer import reproducer_for_check
from .selection import Selection, parse_select, parse_shard, require_known
from .settings import KnownFailure, SuiteSettings, load_settings

# A report's attribute that xdist carries from its workers, and the key of what they say at their end.
_CARRIED = "bollard_outcome"
_LAST = "bollard_outcomes"


@dataclass(slots=True, kw_only=True)
class Run:
    """One run as its own process sees it.

    Attributes:
        outcomes: of checks, in the order in which they ended.
        last: of the whole run, from this process and from xdist's workers.
        runs: ids of the ledgers.
        log: the calls of the check that runs now; None until something was opened.
    """

    settings: SuiteSettings
    selection: Selection
    outcomes: list[Outcome] = field(default_factory=list)
    last: list[Outcome] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    log: CallLog | None = None

    def known(self, found: Check) -> KnownFailure | None:
        """Return what the vendor said of a check before."""
        return next((k for k in self.settings.known if k.id == found.id), None)

    def end(self, outcomes: list[Outcome]) -> list[Outcome]:
        """Add what the audit says at the end; returns it in the light of the known failures."""
        judged = []
        for outcome in outcomes:
            result, message = with_known((outcome.result, outcome.message), self.known(outcome.check))
            judged.append(dataclasses.replace(outcome, result=result, message=message))
        self.last += judged
        return judged


run_key = pytest.StashKey[Run]()
notes_key = pytest.StashKey[Notes]()


def pytest_configure(config: pytest.Config) -> None:
    """Load the driver, and make the checks what this run collects."""
    try:
        config.stash[run_key] = _run(config)
    except (StorageError, PluginError) as error:
        raise pytest.UsageError(str(error)) from error
    config.pluginmanager.register(fixtures, "bollard-fixtures")
    config.args[:] = [str(path) for path in _files(config.stash[run_key].selection)]


def _files(selection: Selection) -> list[Path]:
    """Return the modules that have a check of this run: to collect all of them takes 0.5 s."""
    chosen = {check.id for check in selection.chosen()}
    return [
        CHECKS / f"{name}.py"
        for name, checks in checks_by_module().items()
        if any(check.id in chosen for check in checks)
    ]


def _run(config: pytest.Config) -> Run:
    option = config.getoption
    given = load_settings(option("--bollard-driver"), option("--bollard-config"))
    settings = dataclasses.replace(
        given, seed=option("--bollard-seed"), in_process=option("--bollard-in-process")
    )
    selection = Selection(
        kind=kind_of(load_driver(settings.driver)),
        tier=Tier(option("--bollard-tier")),
        select=parse_select(option("--bollard-select")),
        shard=parse_shard(option("--bollard-shard")),
        profiles=parse_select(option("--bollard-profile")),
    )
    require_known(settings)
    selection.chosen()
    return Run(settings=settings, selection=selection)


class CheckModule(pytest.Module):
    """A module of checks, imported by its real name.

    pytest would import it by path, under a second name and with a second copy of the error classes:
    no `except NotFound` of a check would then catch the driver's.
    """

    def _getobj(self) -> ModuleType:
        return importlib.import_module(f"{__package__}.checks.{self.path.stem}")


def pytest_pycollect_makemodule(module_path: Any, parent: pytest.Collector) -> pytest.Module | None:
    """Collect the modules of checks as what they are."""
    if module_path.parent != CHECKS:
        return None
    module: pytest.Module = CheckModule.from_parent(parent, path=module_path)
    return module


def pytest_pycollect_makeitem(collector: pytest.Collector, name: str, obj: object) -> pytest.Function | None:
    """Collect what carries a check, whatever its name."""
    found: Check | None = getattr(obj, ATTRIBUTE, None)
    if found is None or not isinstance(collector, pytest.Module):
        return None
    item: pytest.Function = pytest.Function.from_parent(collector, name=name)
    item.add_marker(pytest.mark.bollard(found))
    item.user_properties.append(("check", found.id))
    return item


def check_of(item: pytest.Item) -> Check | None:
    """Return the check behind an item, or None for an ordinary test."""
    marker = item.get_closest_marker("bollard")
    return marker.args[0] if marker else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what this run is not about."""
    chosen = {c.id for c in config.stash[run_key].selection.chosen()}
    others = [i for i in items if (found := check_of(i)) and found.id not in chosen]
    if others:
        items[:] = [i for i in items if i not in others]
        config.hook.pytest_deselected(items=others)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Sort what happened into a result, and let it travel with the report."""
    report = yield
    found = check_of(item)
    if found is None or not (call.when == "call" or (call.when == "setup" and call.excinfo is not None)):
        return report
    outcome = _outcome(item, found, call)
    setattr(report, _CARRIED, dump_outcome(outcome))
    if outcome.result is Result.FAIL and call.excinfo is None:
        report.outcome = "failed"
    if outcome.result in (Result.FAIL, Result.ERROR):
        report.longrepr = (
            f"{outcome.result.upper()} {found.id} [{found.rule}]: {outcome.message}\n{found.what}"
        )
    elif outcome.result is not Result.PASS:
        report.outcome = "skipped"
        report.longrepr = (str(item.path), 0, f"{outcome.result}: {outcome.message}")
    return report


def _outcome(item: pytest.Item, found: Check, call: pytest.CallInfo[None]) -> Outcome:
    run = item.config.stash[run_key]
    known = run.known(found)
    result, message = with_known(judge_call(found, call), known)
    notes = item.stash.get(notes_key, None)
    failed = result in (Result.FAIL, Result.KNOWN_FAIL)
    settings = run.settings
    reproducer = notes.reproducer if notes else ""
    if failed and not reproducer:
        reproducer = reproducer_for_check(found, settings)
    return Outcome(
        check=found,
        result=result,
        seconds=call.duration,
        started=call.start,
        message=run.log.redactor()(message) if run.log else message,
        measures=tuple(notes.measures) if notes else (),
        evidence=run.log.taken() if run.log else (),
        reproducer=reproducer,
        ticket=known.ticket if known and result is Result.KNOWN_FAIL else "",
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Begin the check's evidence."""
    log = item.config.stash[run_key].log
    if log is not None:
        log.begin()


class Taker:
    """Takes what this process and xdist's workers say."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep a check's outcome."""
        plain = getattr(report, _CARRIED, None)
        if plain is not None:
            self._run.outcomes.append(load_outcome(plain))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take a worker's results of the whole run; one that crashed says nothing."""
        said = getattr(node, "workeroutput", {}).get(_LAST, {})
        self._run.last += [load_outcome(o) for o in said.get("last", ())]
        self._run.runs += said.get("runs", ())


def pytest_sessionstart(session: pytest.Session) -> None:
    """Begin to take outcomes."""
    session.config.pluginmanager.register(Taker(session.config.stash[run_key]), "bollard-taker")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the controller what a worker knows at its end."""
    run, output = session.config.stash[run_key], getattr(session.config, "workeroutput", None)
    run.last = joined(run.last)
    if output is not None:
        output[_LAST] = {"last": [dump_outcome(o) for o in run.last], "runs": run.runs}


def all_outcomes(run: Run, *, ended: float | None = None) -> list[Outcome]:
    """Return every outcome of a run, with "not-run" for what applies and has none."""
    had = {o.check.id for o in run.outcomes}
    chosen = {c.id for c in run.selection.chosen()}
    missing = [
        Outcome(
            check=c,
            result=Result.NOT_RUN,
            seconds=0.0,
            started=ended or time.time(),
            message="the run ended before it" if c.id in chosen else "left out by --select or --shard",
        )
        for c in run.selection.applicable()
        if c.id not in had
    ]
    return [*run.outcomes, *missing, *joined(run.last)]
