"""The pytest side of the suite: `pytest --bollard-driver=acme --bollard-config=acme.toml`.

A check is collected like a test function; pytest's -k, -x, --pdb and --junitxml work as always. The
plug-in opens the driver once, decides for each check whether it applies, and sorts what happened:

    no capability            -> refused (`pool.undeclared_refused` verifies it)
    ContractBroken, any StorageError  -> fail: the driver did it
    anything else            -> error: the suite or the environment did it
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ..core.access import Mover
from ..core.journal import Journal
from ..core.mover import mover_host
from ..core.plugins import PluginError, kind_of, load_driver
from ..core.pool import Pool, open_pool
from ..core.spi import StorageError
from ..core.store import Store, open_store
from ..transfer_objects.ids import new_id
from .lab import ContractBroken, Lab
from .model import Check, Outcome, Result
from .registry import ATTRIBUTE
from .settings import SuiteSettings, load_settings
from .store_lab import StoreLab

CHECKS = Path(__file__).parent / "checks"
_settings = pytest.StashKey[SuiteSettings]()
_kind = pytest.StashKey[str]()
outcomes_key = pytest.StashKey[list[Outcome]]()


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
    """Leave out the checks of other kinds of driver: they are not part of this run at all."""
    kind = config.stash[_kind]
    others = [i for i in items if (c := check_of(i)) is not None and kind not in c.kinds]
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
def workdir() -> Iterator[Path]:
    """A directory of this run."""
    with tempfile.TemporaryDirectory(prefix="bollard-conformance-") as directory:
        yield Path(directory)


@pytest.fixture(scope="session")
def pool(suite: SuiteSettings) -> Iterator[Pool]:
    """The pool under test, opened once."""
    with open_pool("under-test", suite.driver, suite.options) as opened:
        yield opened


@pytest.fixture
def fresh_pool(suite: SuiteSettings) -> Iterator[Pool]:
    """A second instance of the driver on the same pool."""
    with open_pool("second", suite.driver, suite.options) as opened:
        yield opened


@pytest.fixture(scope="session")
def archive_store(suite: SuiteSettings, workdir: Path) -> Iterator[Store]:
    """Where archive checks write: the configured store, else a directory."""
    directory = workdir / "store"
    directory.mkdir()
    driver, options = suite.store_driver, suite.store_options
    with closing(open_store("archive", driver or "nfs", options or {"path": str(directory)})) as store:
        yield store


@pytest.fixture
def lab(request: pytest.FixtureRequest, suite: SuiteSettings, workdir: Path) -> Iterator[Lab | StoreLab]:
    """The workplace of one check; skips when the driver lacks what the check needs."""
    found = check_of(request.node)
    assert found is not None
    if found.kinds == ("image-store",):
        yield from _store_lab(suite)
        return
    pool: Pool = request.getfixturevalue("pool")
    lacking = [m for m in found.needs if not _has(pool, m)]
    if lacking:
        pytest.skip("not declared: " + ", ".join(m.__name__ for m in lacking))
    mover = Mover(host=mover_host(workdir), journal=Journal(workdir / "journal"))
    with ExitStack() as undo:
        yield Lab(
            pool=pool,
            mover=mover,
            prefix=new_id("bct")[:12],
            archive_store=request.getfixturevalue("archive_store"),
            undo=undo,
        )


def _has(pool: Pool, mixin: Any) -> bool:
    return isinstance(pool.driver, mixin) and mixin.provides in pool.capabilities().native


def _store_lab(suite: SuiteSettings) -> Iterator[StoreLab]:
    with closing(open_store("under-test", suite.driver, suite.options)) as store:
        lab = StoreLab(store=store, prefix=new_id("bct")[:12])
        try:
            yield lab
        finally:
            lab.clean()
