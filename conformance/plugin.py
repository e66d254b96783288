"""The pytest side of the suite: `pytest --bollard-driver=acme --bollard-config=acme.toml`.

A check is collected like a test function; pytest's -k, -x, --pdb and --junitxml work as always. The
plug-in opens the driver once, decides for each check whether it applies, and sorts what happened:

    no capability            -> refused (`pool.undeclared_refused` verifies it)
    ContractBroken, any StorageError  -> fail: the driver did it
    anything else            -> error: the suite or the environment did it
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Generator, Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ..core.access import Mover
from ..core.journal import Journal
from ..core.mover import mover_host
from ..core.plugins import PluginError, kind_of, load_driver
from ..core.pool import Pool
from ..core.spi import StorageError
from ..core.store import Store, open_store
from ..transfer_objects.ids import new_id
from .clean import Place
from .lab import ContractBroken, Lab
from .leaks import Audit
from .ledger import Ledger, default_directory
from .model import Check, Outcome, Result, Tier
from .probe import Probed, probe
from .recording import ARCHIVE, UNDER_TEST, open_recorded_pool, open_recorded_store
from .registry import ATTRIBUTE
from .settings import SuiteSettings, load_settings
from .store_lab import StoreLab
from .subject import Subject, subject_of

CHECKS = Path(__file__).parent / "checks"
_settings = pytest.StashKey[SuiteSettings]()
_kind = pytest.StashKey[str]()
outcomes_key = pytest.StashKey[list[Outcome]]()
run_key = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Load the driver, and make the checks what this run collects."""
    driver, path = config.getoption("--bollard-driver"), config.getoption("--bollard-config")
    config.stash[outcomes_key] = []
    try:
        config.stash[_settings] = load_settings(driver, path)
        config.stash[_kind] = kind_of(load_driver(config.stash[_settings].driver))
    except (StorageError, PluginError) as error:
        raise pytest.UsageError(str(error)) from error
    config.args[:] = [str(CHECKS / f"{name}.py") for name in check_modules()]


class CheckModule(pytest.Module):
    """A module of checks, imported by its real name.

    pytest would import it by path, under a second name and with a second copy of the error classes:
    no `except NotFound` of a check would then catch the driver's.
    """

    def _getobj(self) -> ModuleType:
        return importlib.import_module(f"{__package__}.checks.{self.path.stem}")


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Collect the modules of checks as what they are."""
    if module_path.parent != CHECKS:
        return None
    module: pytest.Module = CheckModule.from_parent(parent, path=module_path)
    return module


def check_modules() -> list[str]:
    """Return the names of the modules that hold checks."""
    return sorted(path.stem for path in CHECKS.glob("[a-z]*.py"))


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
    """Leave out the checks of other kinds of driver and of higher tiers: they are not part of this run."""
    kind, tier = config.stash[_kind], Tier(config.getoption("--bollard-tier"))
    found = [(item, check_of(item)) for item in items]
    others = [i for i, c in found if c and not (kind in c.kinds and tier.includes(c.tier))]
    if others:
        items[:] = [i for i in items if i not in others]
        config.hook.pytest_deselected(items=others)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Sort what happened into a result."""
    report = yield
    found = check_of(item)
    if found is not None and (call.when == "call" or (call.when == "setup" and call.excinfo is not None)):
        outcome = _judge(found, call)
        item.config.stash[outcomes_key].append(outcome)
        if outcome.result in (Result.FAIL, Result.ERROR):
            report.longrepr = (
                f"{outcome.result.upper()} {found.id} [{found.rule}]: {outcome.message}\n{found.what}"
            )
    return report


def _judge(found: Check, call: pytest.CallInfo[None]) -> Outcome:
    result, message = Result.PASS, ""
    if call.excinfo is not None:
        error = call.excinfo.value
        message = f"{type(error).__name__}: {error}"
        if isinstance(error, pytest.skip.Exception):
            result, message = Result.REFUSED, str(error)
        elif isinstance(error, ContractBroken):
            result, message = Result.FAIL, str(error)
        elif isinstance(error, StorageError) and call.when == "call":
            result = Result.FAIL
        else:
            result = Result.ERROR
    return Outcome(check=found, result=result, seconds=call.duration, message=message)


# -- fixtures ------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def suite(request: pytest.FixtureRequest) -> SuiteSettings:
    """What this run was given."""
    return request.config.stash[_settings]


@pytest.fixture(scope="session")
def subject(suite: SuiteSettings) -> Subject:
    """The driver's class and who offers it; nothing is opened."""
    return subject_of(suite.driver)


@pytest.fixture(scope="session")
def probed(subject: Subject) -> Probed:
    """What importing and constructing the driver did in a process of its own."""
    return probe(subject)


@pytest.fixture(scope="session")
def ledger(request: pytest.FixtureRequest, suite: SuiteSettings) -> Iterator[Ledger]:
    """What this run makes, durable; begun with the first check that opens anything."""
    directory = request.config.getoption("--bollard-ledger") or default_directory()
    begun = Ledger.create(directory, driver=suite.driver, config=suite.config)
    run = request.config.stash[run_key] = begun.contents.run
    _say(request.config, f"run {run}, ledger in {directory}")
    yield begun
    if not begun.finish():
        _say(request.config, f"not all could be removed: bollard conformance clean --run {run}")


def _say(config: pytest.Config, line: str) -> None:
    """Tell the user in the middle of a fixture, where pytest swallows what is printed."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    capture = config.pluginmanager.get_plugin("capturemanager")
    if reporter is not None:
        with capture.global_and_fixture_disabled() if capture is not None else nullcontext():
            reporter.ensure_newline()
            reporter.write_line(line)


@pytest.fixture(scope="session")
def audit(request: pytest.FixtureRequest, ledger: Ledger) -> Iterator[Audit]:
    """The leak audit; everything that opens the driver asks for it first, so it ends when all is closed."""
    begun = Audit(ledger)
    yield begun
    outcomes = begun.end()
    request.config.stash[outcomes_key] += outcomes
    leaks = [f"FAIL {o.check.id} [{o.check.rule}]: {o.message}" for o in outcomes if o.result is Result.FAIL]
    if leaks:
        pytest.fail("\n".join(leaks), pytrace=False)


@pytest.fixture(scope="session")
def workdir(ledger: Ledger) -> Iterator[Path]:
    """A directory of this run; beside the ledger, so that `clean` finds it."""
    ledger.work.mkdir(mode=0o700)
    yield ledger.work
    shutil.rmtree(ledger.work)


@pytest.fixture(scope="session")
def pool(suite: SuiteSettings, ledger: Ledger, audit: Audit) -> Iterator[Pool]:  # noqa: ARG001 - order
    """The pool under test, opened once."""
    with open_recorded_pool(UNDER_TEST, suite, ledger) as opened:
        yield opened


@pytest.fixture
def fresh_pool(suite: SuiteSettings, ledger: Ledger, audit: Audit) -> Iterator[Pool]:  # noqa: ARG001 - order
    """A second instance of the driver on the same pool."""
    with open_recorded_pool("second", suite, ledger) as opened:
        yield opened


@pytest.fixture(scope="session")
def archive_store(
    suite: SuiteSettings,
    ledger: Ledger,
    audit: Audit,  # noqa: ARG001 - order
    workdir: Path,
) -> Iterator[Store]:
    """Where archive checks write: the configured store, else a directory."""
    if suite.store_driver:
        opened = open_recorded_store(ARCHIVE, suite.store_driver, suite.store_options, suite, ledger)
    else:
        directory = workdir / "store"
        directory.mkdir()
        opened = open_store(ARCHIVE, "nfs", {"path": str(directory)})
    with closing(opened) as store:
        yield store


@pytest.fixture
def lab(request: pytest.FixtureRequest, suite: SuiteSettings, audit: Audit) -> Iterator[Lab | StoreLab]:
    """The workplace of one check; skips when the driver lacks what the check needs."""
    found = check_of(request.node)
    assert found is not None
    ledger: Ledger = request.getfixturevalue("ledger")
    prefix = f"{ledger.prefix}{new_id()[:4]}"
    if found.kinds == ("image-store",):
        with closing(open_recorded_store(UNDER_TEST, suite.driver, suite.options, suite, ledger)) as store:
            yield StoreLab(store=store, prefix=prefix)
            audit.after_check(found.id, Place(stores={UNDER_TEST: store}))
        return
    pool: Pool = request.getfixturevalue("pool")
    lacking = [m for m in found.needs if not _has(pool, m)]
    if lacking:
        pytest.skip("not declared: " + ", ".join(m.__name__ for m in lacking))
    workdir: Path = request.getfixturevalue("workdir")
    mover = Mover(host=mover_host(workdir), journal=Journal(workdir / "journal"))
    store = request.getfixturevalue("archive_store")
    yield Lab(pool=pool, mover=mover, prefix=prefix, archive_store=store)
    # Without a [store] the archive lies in the run's own directory, and goes with it.
    audit.after_check(found.id, Place(pool=pool, stores={ARCHIVE: store} if suite.store_driver else {}))


def _has(pool: Pool, mixin: Any) -> bool:
    return isinstance(pool.driver, mixin) and mixin.provides in pool.capabilities().native
