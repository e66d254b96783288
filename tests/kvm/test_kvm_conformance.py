"""The suite's hypervisor checks against real KVM.

The suite's objects are qcow2 files, which it reads and writes behind the hypervisor: a raw file could not
hold an internal snapshot.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bollard.conformance.model import Result, Tier
from bollard.conformance.run import RunOptions, run_suite
from bollard.core.plugins import driver_names, registered
from bollard.drivers.hypervisor.kvm import KvmDriver
from bollard.transfer_objects.ids import HostId
from kvm_driving import MIB, KvmRig, call, driver_for
from kvm_lab.host import Host
from kvm_lab.vms import Vm
from kvm_writing import writing_guest

pytest_plugins = ["kvm_rig_fixture"]
pytestmark = [pytest.mark.real(root=True), pytest.mark.slow, pytest.mark.timeout(900)]


# How long an import takes depends on what else this machine does.
TOLERATED = {"static.import_is_cheap"}


@pytest.fixture
def config(kvm_rig: KvmRig, second_host: Host) -> Path:
    """The configuration as a vendor writes it."""
    guest, stopped = writing_guest(kvm_rig), kvm_rig.blank()
    stopped.stop()
    _introduce_own_disks(kvm_rig, second_host)
    return _written(kvm_rig, second_host, guest, stopped)


def _introduce_own_disks(rig: KvmRig, host: Host) -> None:
    """Make the second host know the disk of the guest's own, for it moves with the guest."""
    with closing(driver_for(rig.directory, rig.host, host)) as driver:
        for name in rig.known:
            disk = rig.introduction(name, rig.directory / f"{name}.qcow2", 64 * MIB)
            driver.introduce(dataclasses.replace(disk, host=HostId(host.name)), call())


def _written(rig: KvmRig, second: Host, guest: Vm, stopped: Vm) -> Path:
    objects = rig.directory / "objects"
    objects.mkdir()
    tables = {
        "options": {
            "hosts": f"{rig.host.name}={rig.host.uri} {second.name}={second.uri}",
            "state": str(rig.directory / "state"),
            "scratch": str(rig.directory / "scratch"),
            "migration": "tcp:127.0.0.1",
        },
        "hypervisor": {
            "host": rig.host.name,
            "second_host": second.name,
            "vm": guest.name,
            "stopped_vm": stopped.name,
            "objects": str(objects),
            "format": "qcow2",
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


def test_real_kvm_passes_the_suite(config: Path) -> None:
    """All checks of a hypervisor pass, those that are no MUST as well, and none is refused or left out."""
    with _offered():
        options = RunOptions(tier=Tier.STANDARD, in_process=True, quiet=True)
        verdict = run_suite("kvm", config, options)
    bad = [one for one in verdict.outcomes if one.result is not Result.PASS and one.check.id not in TOLERATED]
    assert not bad, json.dumps({f"{one.result} {one.check.id}": one.message for one in bad}, indent=1)
    assert verdict.conformant, verdict.line()
