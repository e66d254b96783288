"""We are killed at each step of a call of the driver: the same call again ends it, and nothing is left."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import libvirt
import pytest

from bollard.core.spi import FileLocation, Introduction
from bollard.transfer_objects.ids import VmSnapshotId
from kvm_driver_kill import died, do
from kvm_driving import MIB, KvmRig, call, driver_for, path_of
from kvm_lab.vms import Vm

pytest_plugins = ["kvm_rig_fixture"]
pytestmark = [pytest.mark.real(root=True), pytest.mark.slow]

_STATE = {True: libvirt.VIR_DOMAIN_RUNNING, False: libvirt.VIR_DOMAIN_SHUTOFF}


def _vm(rig: KvmRig, *, running: bool) -> tuple[Vm, list[Introduction]]:
    vm = rig.blank()
    disks = rig.disks(vm)
    for number in range(2):
        vm.write(number, MIB, 65536, 7)
    vm.domain.resume() if running else vm.stop()
    return vm, disks


def _again(rig: KvmRig, vm: Vm, what: str, names: Mapping[str, str]) -> None:
    """The management server after its death: a new driver that knows what is on disk."""
    driver = driver_for(rig.directory, rig.host)
    do(driver, vm.name, what, names)
    driver.close()
    assert not list((rig.directory / "state").glob("*/begun/*"))


def _tags(disk: Introduction) -> list[str]:
    info = _info(path_of(disk))
    return [one["name"] for one in info.get("snapshots", [])]


def _info(path: Path) -> dict[str, Any]:
    command = ["qemu-img", "info", "-U", "--output", "json", "-f", "qcow2", str(path)]
    told: dict[str, Any] = json.loads(subprocess.check_output(command))
    return told


def _holds(disk: Introduction) -> bool:
    line = ["qemu-io", "-r", "-U", "-f", "qcow2", "-c", f"read -P 7 {MIB} 64k", str(path_of(disk))]
    return subprocess.run(line, check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize("running", [True, False])
def test_a_killed_deletion_is_ended_by_a_repeat(kvm_rig: KvmRig, *, running: bool) -> None:
    """Whatever the step, the snapshot is gone from all disks and from libvirt; the guest runs if it ran."""
    vm, disks = _vm(kvm_rig, running=running)
    names = {"snapshot": "s1"}
    for at in count(1):
        kvm_rig.driver.create_vm_snapshot(vm.name, VmSnapshotId("s1"), call(), memory=False)
        assert [_tags(disk) for disk in disks] == [["s1"], ["s1"]]
        killed = died(kvm_rig, vm.name, "delete", names, at)
        _again(kvm_rig, vm, "delete", names)
        assert [_tags(disk) for disk in disks] == [[], []]
        assert vm.domain.snapshotListNames() == []
        assert vm.state == _STATE[running]
        if not killed:
            break
    assert at > 6
    if running:
        vm.stop()
    assert all(_holds(disk) for disk in disks)


@pytest.mark.parametrize("running", [True, False])
def test_killed_overlays_are_put_on_by_a_repeat(kvm_rig: KvmRig, *, running: bool) -> None:
    """Whatever the step, the VM writes to all overlays then, and no other file is there."""
    vm, disks = _vm(kvm_rig, running=running)
    before = set(kvm_rig.directory.glob("*.qcow2"))
    for at in count(1):
        paths = {name: kvm_rig.directory / f"{name}-{at}.qcow2" for name in ("vda", "vdb")}
        names = {name: str(path) for name, path in paths.items()}
        killed = died(kvm_rig, vm.name, "add", names, at)
        _again(kvm_rig, vm, "add", names)
        assert set(kvm_rig.directory.glob("*.qcow2")) == before | set(paths.values())
        for (name, path), disk in zip(paths.items(), disks, strict=True):
            assert _info(path)["full-backing-filename"] == str(path_of(disk))
            top, base = (FileLocation(path=one, format="qcow2") for one in (path, path_of(disk)))
            kvm_rig.driver.merge_image(vm.name, name, top, base, call())
            path.unlink()
        assert vm.state == _STATE[running]
        if not killed:
            break
    assert at > (2 if running else 6)
    if running:
        vm.stop()
    assert all(_holds(disk) for disk in disks)
