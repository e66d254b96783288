"""Running the suite from a program: what `bollard conformance run` calls."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from ..core.plugins import describe_drivers, load_driver
from ..core.pool import Pool, open_pool
from ..core.spi import ImageStoreDriver, Internal
from ..core.store import Store, open_store
from . import plugin
from .model import Outcome, Tier, Verdict
from .settings import SuiteSettings, load_settings


class _Collector:
    """Takes the outcomes out of the pytest session."""

    def __init__(self) -> None:
        self.outcomes: tuple[Outcome, ...] = ()
        self.run = ""

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        found: list[Outcome] = session.config.stash.get(plugin.outcomes_key, [])
        self.outcomes = tuple(found)
        self.run = session.config.stash.get(plugin.run_key, "")


def run_suite(
    driver: str,
    config: Path | None = None,
    *,
    tier: Tier = Tier.STANDARD,
    select: str = "",
    junit: Path | None = None,
    ledger: Path | None = None,
    quiet: bool = False,
) -> Verdict:
    """Run the checks against a driver.

    Args:
        driver: entry-point name; may be empty if the configuration names it.
        config: the vendor's TOML file.
        tier: how much is run; with `Tier.STATIC` nothing is opened, and no options are needed.
        select: pytest's -k expression over check ids.
        junit: where to write JUnit XML.
        ledger: directory of the run's ledger, see `ledger.default_directory`.
        quiet: print nothing.

    Raises:
        InvalidArgument: the configuration is bad.
        PluginError: the driver cannot be loaded.
        StorageError: the pool or store cannot be opened.
    """
    settings = load_settings(driver, config)
    if tier is not Tier.STATIC:
        _try_to_open(settings)
    collector = _Collector()
    arguments = ["-p", "no:cacheprovider", "--import-mode=importlib", "--assert=plain", "-q", "--no-header"]
    # No ini file: neither ours nor one that lies near the vendor's configuration has a say.
    arguments += ["-c", os.devnull, f"--rootdir={plugin.CHECKS}", "--no-summary", "--tb=no"]
    arguments += [f"--bollard-driver={settings.driver}", f"--bollard-tier={tier}"]
    arguments += [f"--bollard-config={config.absolute()}"] if config else []
    arguments += ["-k", select] if select else []
    arguments += [f"--junitxml={junit}"] if junit else []
    arguments += [f"--bollard-ledger={ledger.absolute()}"] if ledger else []
    with contextlib.redirect_stdout(io.StringIO()) if quiet else contextlib.nullcontext():
        code = pytest.main(arguments, plugins=[collector])
    if code in (pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR):
        raise Internal(f"pytest could not run the suite ({pytest.ExitCode(code).name})")
    if code == pytest.ExitCode.INTERRUPTED:
        raise KeyboardInterrupt
    return Verdict(
        driver=settings.driver,
        distribution=_distribution(settings.driver),
        run=collector.run,
        outcomes=collector.outcomes,
    )


def _try_to_open(settings: SuiteSettings) -> None:
    """Open the pool or store once: a wrong address is one sentence then, and not an error per check.

    Raises:
        PluginError: the driver cannot be loaded.
        StorageError: it is not marked for tests, or what opening it says.
    """
    cls = load_driver(settings.driver)
    settings.require_test_pool()
    opens: Callable[[], Pool | Store] = partial(open_pool, "under-test", settings.driver, settings.options)
    if issubclass(cls, ImageStoreDriver):
        opens = partial(open_store, "under-test", settings.driver, settings.options)
    opens().close()


def _distribution(driver: str) -> str:
    return next((i.distribution for i in describe_drivers() if i.name == driver), "")
