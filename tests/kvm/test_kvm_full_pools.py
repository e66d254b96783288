"""The pool runs full in the midst of a merge, or below an overlay: it is told, and after that all goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bollard.core.spi import FileLocation, Introduction, OutOfCapacity, VmState
from bollard.drivers.hypervisor.kvm import chains, overlays
from bollard.transfer_objects.ids import VmId
from kvm_driving import MIB, KvmRig, call, path_of
from kvm_lab import Lab, disk_images
from kvm_lab.polling import until
from kvm_lab.vms import Vm

pytest_plugins = ["kvm_rig_fixture"]
pytestmark = pytest.mark.real(root=True)

BIG = 24 * MIB


def _fill(directory: Path, rest: int) -> Path:
    """Let somebody else take the space, all but so much."""
    filler = directory / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(directory).free - rest)
    return filler


def _overlay(directory: Path) -> FileLocation:
    return FileLocation(path=directory / "o1.qcow2", format="qcow2")


def _small_disk(rig: KvmRig, small: Path, vm: Vm, file_system: str = "") -> Introduction:
    made = rig.introduction("v-small", disk_images.qcow2(small / "v.qcow2", 64 * MIB, file_system), 64 * MIB)
    rig.attach(vm, made)
    return made


@pytest.mark.parametrize("running", [True, False])
def test_a_merge_that_runs_full_goes_on_later(
    kvm_rig: KvmRig, kvm_lab: Lab, monkeypatch: pytest.MonkeyPatch, *, running: bool
) -> None:
    """Somebody takes the space in its midst: "out of capacity", the VM as it was; a repeat loses nothing."""
    small = kvm_lab.new_directory(size=48 * MIB)
    vm = kvm_rig.blank()
    disk, overlay = _small_disk(kvm_rig, small, vm), _overlay(kvm_rig.directory)
    base = FileLocation(path=path_of(disk), format="qcow2")
    vm.write(0, 0, MIB, 1)
    kvm_rig.driver.add_overlays(vm.name, {"vda": overlay}, call())
    vm.write(0, MIB, BIG, 2)
    vm.domain.resume() if running else vm.stop()
    whole = chains.check_space

    def looked(*asked: Any) -> None:
        whole(*asked)
        _fill(small, 4 * MIB)

    monkeypatch.setattr(overlays, "check_space", looked)
    with pytest.raises(OutOfCapacity):
        kvm_rig.driver.merge_image(vm.name, "vda", overlay, base, call())
    monkeypatch.undo()
    assert kvm_rig.driver.vm_state(vm.name, call()) is (VmState.RUNNING if running else VmState.STOPPED)
    (shown,) = kvm_rig.driver.vm_disks(VmId(vm.name), call())
    assert shown.location == overlay
    with pytest.raises(OutOfCapacity):  # before it is begun
        kvm_rig.driver.merge_image(vm.name, "vda", overlay, base, call())
    (small / "filler").unlink()
    kvm_rig.driver.merge_image(vm.name, "vda", overlay, base, call())
    overlay.path.unlink()
    if running:
        vm.stop()
    assert _holds(base.path, 0, MIB, 1)
    assert _holds(base.path, MIB, BIG, 2)


def _holds(path: Path, offset: int, length: int, pattern: int) -> bool:
    command = ["qemu-io", "-r", "-f", "qcow2", "-c", f"read -P {pattern:#x} {offset} {length}", str(path)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("then", ["space is given", "merged"])
def test_a_guest_whose_overlay_runs_full_loses_nothing(kvm_rig: KvmRig, kvm_lab: Lab, then: str) -> None:
    """QEMU stops the guest, and the driver shows it; with space, or after the merge, its writing succeeds."""
    small = kvm_lab.new_directory(size=96 * MIB)
    guest, (place,) = kvm_rig.guest_with(1)
    (disk,) = kvm_rig.known.values()
    vm, overlay = VmId(guest.name), _overlay(small)
    kvm_rig.driver.add_overlays(vm, {"vda": overlay}, call())
    filler = _fill(small, 4 * MIB)
    guest.shell("dd if=/dev/urandom of=/tmp/data bs=1M count=12")
    guest.shell(f"(cp /tmp/data {place}/data && sync; echo $? >/tmp/ended) >/dev/null 2>&1 &")
    until(lambda: kvm_rig.driver.vm_state(vm, call()) is VmState.PAUSED, 60, "QEMU to stop the guest")
    if then == "merged":
        (kept,) = kvm_rig.directory.glob(f"{disk.object_id}.*")
        kvm_rig.driver.merge_image(vm, "vda", overlay, FileLocation(path=kept, format="qcow2"), call())
    else:
        filler.unlink()
        kvm_rig.driver.start_vm(vm, call())
    assert kvm_rig.driver.vm_state(vm, call()) is VmState.RUNNING
    until(lambda: guest.shell("cat /tmp/ended 2>/dev/null; true"), 60, "the guest to have written")
    assert guest.shell("cat /tmp/ended") == "0"
    guest.shell(f"echo 3 >/proc/sys/vm/drop_caches; cmp /tmp/data {place}/data")
