"""What is installed beside the suite, or set in the environment, has no say in a verdict."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bollard.conformance.undisturbed import undisturbed

# As pytest-randomly, pytest-rerunfailures or a company's own plugin: here one that leaves everything out.
PLUGIN = """
def pytest_collection_modifyitems(items):
    items.clear()
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory of installed packages with a plugin for pytest."""
    info = tmp_path / "meddler-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: meddler\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[pytest11]\nmeddler = meddler\n")
    (tmp_path / "meddler.py").write_text(PLUGIN)
    return tmp_path


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_run_is_the_same_beside_a_plugin_and_options(site, jobs):
    """A plugin that leaves out all tests, and options that choose none, leave out nothing."""
    command = [sys.executable, "-m", "bollard", "conformance", "run", "--driver=qcow2", "--tier=static"]
    command += ["--json", f"--jobs={jobs}", "--select=static.import_has_no_side_effects"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(site),
        "PYTEST_ADDOPTS": "-k nothing",
        "PYTEST_PLUGINS": "x",
    }
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)

    results = {c["id"]: c["result"] for c in json.loads(done.stdout)["checks"]}
    assert results["static.import_has_no_side_effects"] == "pass"


def test_the_environment_is_as_it_was_afterwards(monkeypatch):
    """A program that runs the suite finds its variables again, whether they were set or not."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-x")
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", raising=False)
    with undisturbed():
        assert "PYTEST_ADDOPTS" not in os.environ
    assert os.environ["PYTEST_ADDOPTS"] == "-x"
    assert "PYTEST_DISABLE_PLUGIN_AUTOLOAD" not in os.environ
