"""The suite's door into pytest: options only, so that other people's test runs stay as fast as they were.

`plugin.py` (and core behind it) is imported when a driver is named.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

# model.Tier's, which would import more than other people's test runs should pay for.
TIERS = ("static", "smoke", "standard", "deep", "disruptive")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the suite's options."""
    group = parser.getgroup("bollard", "Bollard's conformance suite")
    group.addoption("--bollard-driver", default="", help="the storage driver to check")
    group.addoption("--bollard-tier", default="standard", choices=TIERS, help="how much is run")
    group.addoption("--bollard-config", type=Path, default=None, help="the suite's TOML file")
    group.addoption("--bollard-ledger", type=Path, default=None, help="directory of the run's ledger")
    group.addoption("--bollard-profile", action="append", default=[], help="only this profile, and core")
    group.addoption("--bollard-select", action="append", default=[], help="ids or patterns, vol.*")
    group.addoption("--bollard-shard", default="1/1", help="i/n: only each n-th check")
    group.addoption("--bollard-logs", type=Path, default=None, help="copy the driver's logs there")
    group.addoption("--bollard-seed", type=int, default=None, help="what random choices follow from")
    group.addoption(
        "--bollard-deep-seconds", type=float, default=None, help="for each check of long random histories"
    )
    group.addoption(
        "--bollard-in-process",
        action="store_true",
        help="run the driver in this process, for a debugger (crash checks cannot run then)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Switch the suite on when a driver or its configuration is named."""
    config.addinivalue_line("markers", "bollard(check): a check of Bollard's conformance suite")
    if config.getoption("--bollard-driver") or config.getoption("--bollard-config"):
        from . import plugin

        if config.option.bollard_seed is None:  # here, so that xdist's workers are given the same
            config.option.bollard_seed = random.SystemRandom().getrandbits(32)
        config.pluginmanager.register(plugin, "bollard-suite")
