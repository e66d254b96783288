"""The suite's hypervisor checks against real KVM.

The suite's objects are raw files, which it reads and writes behind the hypervisor. A raw file cannot hold
an internal snapshot, so the checks that take one fail here, for that reason; all others must pass.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bollard.conformance.model import Result, Tier
from bollard.conformance.run import RunOptions, run_suite
from bollard.core.plugins import driver_names, registered
from bollard.drivers.hypervisor.kvm import KvmDriver
from kvm_driving import KvmRig
from kvm_lab.vms import Vm
from kvm_writing import writing_guest

pytest_plugins = ["kvm_rig_fixture"]
pytestmark = [pytest.mark.real(root=True), pytest.mark.slow, pytest.mark.timeout(900)]

# Snapshots of raw disks: Unsupported on KVM.
NEED_QCOW2 = frozenset(
    {
        "vmsnap.create_twice_same",
        "vmsnap.delete_missing_ok",
        "vmsnap.delete_one_of_three",
        "vmsnap.multi_disk_one_instant",
        "vmsnap.revert_all_disks",
        "vmsnap.snapshot_keeps_freeze",
    }
)


@pytest.fixture
def config(kvm_rig: KvmRig) -> Path:
    """The configuration as a vendor writes it."""
    guest, stopped = writing_guest(kvm_rig), kvm_rig.blank()
    stopped.stop()
    return _written(kvm_rig, guest, stopped)


def _written(rig: KvmRig, guest: Vm, stopped: Vm) -> Path:
    objects = rig.directory / "objects"
    objects.mkdir()
    tables = {
        "options": {
            "hosts": f"{rig.host.name}={rig.host.uri}",
            "state": str(rig.directory / "state"),
            "scratch": str(rig.directory / "scratch"),
        },
        "hypervisor": {
            "host": rig.host.name,
            "vm": guest.name,
            "stopped_vm": stopped.name,
            "objects": str(objects),
        },
    }
    lines = ['driver = "kvm"', "test_pool = true"]
    for table, content in tables.items():
        lines += [f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in content.items())]
    path = rig.directory / "kvm.toml"
    path.write_text("\n".join(lines))
    return path


@contextlib.contextmanager
def _offered() -> Iterator[None]:
    with contextlib.nullcontext() if "kvm" in driver_names() else registered("kvm", KvmDriver):
        yield


@pytest.mark.parametrize("tier", [Tier.SMOKE, Tier.STANDARD])
def test_real_kvm_passes_the_suite(config: Path, tier: Tier) -> None:
    """All checks of a hypervisor pass, but for snapshots of raw disks, which KVM cannot take."""
    with _offered():
        verdict = run_suite("kvm", config, RunOptions(tier=tier, in_process=True, quiet=True))
    bad = (Result.FAIL, Result.ERROR)
    wrong = {one.check.id: one.message for one in verdict.musts if one.result in bad}
    unexpected = {name: text for name, text in wrong.items() if name not in NEED_QCOW2}
    assert not unexpected, json.dumps(unexpected, indent=1)
