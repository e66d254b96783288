"""The lab's fixtures: real hosts and guests."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

if importlib.util.find_spec("libvirt") or os.environ.get("CI") == "true":
    from kvm_lab.fixtures import *  # noqa: F403 - pytest finds fixtures by their being here
else:  # no libvirt-dev to compile it with; tests/conftest.py says so
    collect_ignore_glob = ["test_*.py"]

_LIB = Path(__file__).parents[1] / "lib"


@pytest.fixture
def kvm_python(monkeypatch) -> list[str]:
    """A Python that can import the lab, for what needs a process of its own."""
    monkeypatch.setenv("PYTHONPATH", f"{_LIB}:{os.environ.get('PYTHONPATH', '')}")
    return [sys.executable]
