"""Running the suite from a program: what `bollard conformance run` calls."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest

from ..core.plugins import describe_drivers
from ..core.spi import Internal
from . import plugin
from .model import Outcome, Verdict
from .settings import load_settings


class _Collector:
    """Takes the outcomes out of the pytest session."""

    def __init__(self) -> None:
        self.outcomes: tuple[Outcome, ...] = ()

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        found: list[Outcome] = session.config.stash.get(plugin.outcomes_key, [])
        self.outcomes = tuple(found)


def run_suite(
    driver: str,
    config: Path | None = None,
    *,
    select: str = "",
    junit: Path | None = None,
    quiet: bool = False,
) -> Verdict:
    """Run the checks against a driver.

    Args:
        driver: entry-point name; may be empty if the configuration names it.
        config: the vendor's TOML file.
        select: pytest's -k expression over check ids.
        junit: where to write JUnit XML.
        quiet: print nothing.

    Raises:
        InvalidArgument: the configuration is bad.
        PluginError: the driver cannot be loaded.
    """
    settings = load_settings(driver, config)
    collector = _Collector()
    arguments = [
        "-p",
        "no:cacheprovider",
        "--import-mode=importlib",
        "-o",
        "addopts=",
        f"--rootdir={plugin.CHECKS}",
    ]
    arguments += ["-q", "--no-header", "--tb=line", "--bollard-driver", settings.driver]
    arguments += ["--bollard-config", str(config)] if config else []
    arguments += ["-k", select] if select else []
    arguments += [f"--junitxml={junit}"] if junit else []
    with contextlib.redirect_stdout(io.StringIO()) if quiet else contextlib.nullcontext():
        code = pytest.main(arguments, plugins=[collector])
    if code in (pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR):
        raise Internal(f"pytest could not run the suite ({pytest.ExitCode(code).name})")
    if code == pytest.ExitCode.INTERRUPTED:
        raise KeyboardInterrupt
    return Verdict(
        driver=settings.driver, distribution=_distribution(settings.driver), outcomes=collector.outcomes
    )


def _distribution(driver: str) -> str:
    return next((i.distribution for i in describe_drivers() if i.name == driver), "")
