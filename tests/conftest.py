"""Which tests can run on this machine, how Hypothesis behaves on all of them, and fixtures for all."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

SETUP = Path(__file__).parents[1] / "scripts" / "setup-system.sh"
IN_CI = os.environ.get("CI") == "true"

# No deadline: the first example of a property pays for imports and a cold disk cache, on two shared cores.
settings.register_profile("bollard", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("bollard")


@pytest.fixture(scope="session")
def images() -> ModuleType:
    """The functions of tests/images.py: real images and servers.

    Loaded by path: importlib mode keeps tests/ off sys.path, so that no test file shadows a library.
    """
    path = Path(__file__).with_name("images.py")
    spec = importlib.util.spec_from_file_location("bollard_test_images", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pytest_configure(config: pytest.Config) -> None:
    """Look once which of the tools that real backends need are missing."""
    missing = subprocess.run([SETUP, "--missing"], capture_output=True, text=True, check=True, timeout=30)
    config.stash[MISSING] = missing.stdout.splitlines()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that cannot run here; in CI they stay, and fail."""
    if IN_CI:
        return
    left_out = [item for item in items if _lacks_its_backend(item, config.stash[MISSING])]
    if left_out:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say in one line what was left out and why; workers of xdist report no deselection of their own."""
    reasons = config.stash[MISSING] + ([] if os.geteuid() == 0 else ["root"])
    if reasons and not IN_CI:
        needs = ", ".join(reason.split()[0] for reason in reasons)
        terminalreporter.write_line(f"Left out: tests marked `real` that need {needs}.", yellow=True)


def _lacks_its_backend(item: pytest.Item, missing: list[str]) -> bool:
    real = item.get_closest_marker("real")
    return real is not None and (bool(missing) or (real.kwargs.get("root", False) and os.geteuid() != 0))


MISSING = pytest.StashKey[list[str]]()
