"""The tests of a VM snapshot's life on real guests: the functions of tests/vm_snapshots, another cloud."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from kvm_cloud import KvmCloud

pytest_plugins = ["kvm_cloud_fixture"]
pytestmark = [pytest.mark.real(root=True), pytest.mark.slow]


def _life() -> ModuleType:
    """Load the module by path: directories of tests are no packages."""
    path = Path(__file__).parents[1] / "vm_snapshots" / "test_vm_snapshot_life.py"
    spec = importlib.util.spec_from_file_location("vm_snapshot_life", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


life = _life()
TestOneSnapshot = life.TestOneSnapshot
TestTrees = life.TestTrees


@pytest.fixture
def kind() -> str:
    """As the simulated cloud calls it: who takes the snapshots is looked up there."""
    return "kvm files"


@pytest.fixture
def cloud(open_cloud: Callable[..., KvmCloud]) -> KvmCloud:
    """A real cloud with a running VM."""
    return open_cloud()
