"""Running the suite from a program: what `bollard conformance run` calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..core.plugins import describe_drivers
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
    arguments += ["--capture=sys", "-p", "no:terminal"] if quiet else []
    pytest.main(arguments, plugins=[collector])
    return Verdict(
        driver=settings.driver, distribution=_distribution(settings.driver), outcomes=collector.outcomes
    )


def _distribution(driver: str) -> str:
    return next((i.distribution for i in describe_drivers() if i.name == driver), "")
