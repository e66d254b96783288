"""The server that the other tests of this directory use, when a run before them was cut off."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import postgres


@pytest.fixture
def home() -> Iterator[Path]:
    """What a server that died with its machine leaves, but for its data."""
    home = Path(tempfile.mkdtemp(prefix="bollard-postgres-"))
    (home / "data").mkdir()
    yield home
    shutil.rmtree(home, ignore_errors=True)


def ended_pid() -> int:
    """A number that no process has any more."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


@pytest.mark.parametrize("whose", ["nobody's", "another process's", "not written yet"])
def test_a_home_of_a_server_that_died_with_its_machine_is_removed(home, whose):
    """Its pid file does not stand in the way of the next run, which failed 152 tests of one in CI."""
    pid = {"nobody's": ended_pid(), "another process's": os.getpid(), "not written yet": ""}[whose]
    (home / "data" / "postmaster.pid").write_text(f"{pid}\n{home}/data\n")
    postgres.sweep()
    assert not home.exists()


def test_a_home_in_use_is_left(home):
    """Its lock is held by who uses it."""
    with postgres._locked(home):
        postgres.sweep()
        assert home.exists()
    postgres.sweep()
    assert not home.exists()
