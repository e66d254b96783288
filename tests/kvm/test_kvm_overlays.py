"""Overlays: put on all disks at one instant or on none, merged again with nothing lost."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import libvirt
import pytest

from bollard.core.spi import (
    Conflict,
    FileLocation,
    GuestState,
    Introduction,
    InUse,
    InvalidArgument,
    NotFound,
    Outcome,
    OutOfCapacity,
    StorageError,
    Unavailable,
    VmState,
)
from kvm_driving import MIB, KvmRig, call, path_of
from kvm_lab.guests import Guest
from kvm_lab.vms import Vm

pytest_plugins = ["kvm_rig_fixture"]
pytestmark = pytest.mark.real(root=True)


def _overlay(rig: KvmRig, name: str) -> FileLocation:
    return FileLocation(path=rig.directory / f"{name}.qcow2", format="qcow2")


def _images(rig: KvmRig, vm: Vm) -> list[Path]:
    """Return what each disk of a VM writes to now."""
    found = [disk.location for disk in rig.driver.vm_disks(vm.name, call())]
    return [location.path for location in found if isinstance(location, FileLocation)]


def _backing(path: Path) -> str:
    command = ["qemu-img", "info", "-U", "--output", "json", str(path)]
    told = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return str(told.get("full-backing-filename", ""))


def _base(disk: Introduction) -> FileLocation:
    return FileLocation(path=path_of(disk), format="qcow2")


def _write(path: Path, offset: int, pattern: int) -> None:
    _io(path, f"write -P {pattern:#x} {offset} 64k")


def _holds(path: Path, offset: int, pattern: int) -> bool:
    return "Pattern verification failed" not in _io(path, f"read -P {pattern:#x} {offset} 64k")


def _io(path: Path, line: str) -> str:
    command = ["qemu-io", "-f", "qcow2", "-c", line, str(path)]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout


def _with_files(rig: KvmRig) -> tuple[Guest, list[str], list[Introduction]]:
    guest = rig.guest()
    disks = rig.disks(guest, 2, file_system="ext4")
    places = [guest.mounted(disk.object_id) for disk in disks]
    guest.shell("; ".join(f"echo before > {place}/file" for place in places))
    return guest, places, disks


@pytest.mark.parametrize("quiesce", [True, False])
def test_overlays_are_added_and_merged_while_the_guest_writes(kvm_rig: KvmRig, *, quiesce: bool) -> None:
    """The old images keep the instant, the guest goes on above them, and the merge brings all together."""
    guest, places, disks = _with_files(kvm_rig)
    guest.sync()
    overlays = {"vda": _overlay(kvm_rig, "a1"), "vdb": _overlay(kvm_rig, "b1")}
    for _ in range(2):
        kvm_rig.driver.add_overlays(guest.name, overlays, call(), quiesce=quiesce)
    assert kvm_rig.driver.guest_state(guest.name, call()) is GuestState.THAWED
    assert _images(kvm_rig, guest) == [one.path for one in overlays.values()]
    assert [disk.object_id for disk in kvm_rig.driver.vm_disks(guest.name, call())] == [
        disk.object_id for disk in disks
    ]
    guest.shell("; ".join(f"echo after > {place}/file; sync" for place in places))
    seen: list[tuple[int, int]] = []
    for device, disk in zip(overlays, disks, strict=True):
        for _ in range(2):
            watched = call()
            object.__setattr__(watched, "progress", lambda done, total: seen.append((done, total)))
            kvm_rig.driver.merge_image(guest.name, device, overlays[device], _base(disk), watched)
    assert _images(kvm_rig, guest) == [path_of(disk) for disk in disks]
    assert all(0 <= done <= total for done, total in seen)
    assert guest.shell(f"cat {places[0]}/file {places[1]}/file") == "after\nafter"
    guest.stop()
    guest.start()
    guest.wait()
    assert guest.read_file(f"{guest.mounted(disks[1].object_id)}/file") == b"after\n"


def test_overlays_that_cannot_all_be_added_are_not_added(kvm_rig: KvmRig) -> None:
    """Where the second overlay cannot be made, the first is gone, and the VM writes where it wrote."""
    vm = kvm_rig.blank()
    disks = kvm_rig.disks(vm)
    first = _overlay(kvm_rig, "a1")
    (kvm_rig.directory / "full").mkdir()
    for second in (_overlay(kvm_rig, "nowhere/b1"), FileLocation(path=Path("/proc/b1"), format="qcow2")):
        with pytest.raises(StorageError) as caught:
            kvm_rig.driver.add_overlays(vm.name, {"vda": first, "vdb": second}, call())
        assert caught.value.outcome is Outcome.NOT_APPLIED
        assert not first.path.exists()
        assert _images(kvm_rig, vm) == [path_of(disk) for disk in disks]


def test_nothing_is_written_over(kvm_rig: KvmRig) -> None:
    """An overlay's path at which something lies is refused, and so is a raw one and an unknown device."""
    vm = kvm_rig.blank()
    (disk,) = kvm_rig.disks(vm, 1)
    with pytest.raises(Conflict):
        kvm_rig.driver.add_overlays(vm.name, {"vda": _base(kvm_rig.volume())}, call())
    raw = FileLocation(path=kvm_rig.directory / "x", format="raw")
    with pytest.raises(InvalidArgument):
        kvm_rig.driver.add_overlays(vm.name, {"vda": raw}, call())
    with pytest.raises(NotFound):
        kvm_rig.driver.add_overlays(vm.name, {"vdz": _overlay(kvm_rig, "z")}, call())
    assert _images(kvm_rig, vm) == [path_of(disk)]


def test_quiesce_without_an_agent_changes_nothing(kvm_rig: KvmRig) -> None:
    """A running VM whose agent does not answer gets no overlay when a quiesced one was asked for."""
    guest, _, disks = _with_files(kvm_rig)
    with pytest.raises((libvirt.libvirtError, TimeoutError)):
        guest.shell("killall qemu-ga; sleep 1", seconds=5)
    overlay = _overlay(kvm_rig, "a1")
    with pytest.raises(Unavailable) as caught:
        kvm_rig.driver.add_overlays(guest.name, {"vda": overlay}, call(), quiesce=True)
    assert caught.value.outcome is Outcome.NOT_APPLIED
    assert not overlay.path.exists()
    assert _images(kvm_rig, guest) == [path_of(disk) for disk in disks]


def _chain(rig: KvmRig, *, running: bool) -> tuple[Vm, Introduction, Sequence[FileLocation]]:
    """A disk with two overlays, each level with a pattern of its own at its own megabyte."""
    vm = rig.blank()
    vm.stop()
    (disk,) = rig.disks(vm, 1)
    overlays = [_overlay(rig, "o1"), _overlay(rig, "o2")]
    _write(path_of(disk), 0, 1)
    for number, overlay in enumerate(overlays, 1):
        rig.driver.add_overlays(vm.name, {"vda": overlay}, call())
        _write(overlay.path, number * MIB, number + 1)
    if running:
        vm.start()
    return vm, disk, overlays


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("order", ["middle first", "top first", "all at once"])
def test_a_chain_is_merged_in_any_order(kvm_rig: KvmRig, order: str, *, running: bool) -> None:
    """Whichever overlay goes first, in the end the base holds all, and the VM stands on it alone."""
    vm, disk, (first, second) = _chain(kvm_rig, running=running)
    base = _base(disk)
    steps = {
        "middle first": [(first, base), (second, base)],
        "top first": [(second, first), (first, base)],
        "all at once": [(second, base)],
    }[order]
    for top, below in steps:
        for _ in range(2):
            kvm_rig.driver.merge_image(vm.name, "vda", top, below, call())
        assert top.path not in _images(kvm_rig, vm)
    assert _images(kvm_rig, vm) == [base.path]
    assert kvm_rig.driver.vm_state(vm.name, call()) is (VmState.RUNNING if running else VmState.STOPPED)
    first.path.unlink()
    second.path.unlink()
    kvm_rig.driver.merge_image(vm.name, "vda", second, base, call())
    if running:
        vm.stop()
    assert all(_holds(base.path, number * MIB, number + 1) for number in range(3))
    assert _backing(base.path) == ""


def test_a_merge_that_does_not_fit_is_refused_before(
    kvm_rig: KvmRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too little space below is told with both sizes, and nothing was begun."""
    vm, disk, (first, _) = _chain(kvm_rig, running=False)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(OutOfCapacity, match="1000 are free"):
        kvm_rig.driver.merge_image(vm.name, "vda", first, _base(disk), call())
    assert _backing(first.path) == str(path_of(disk))


def test_a_merge_goes_down_only(kvm_rig: KvmRig) -> None:
    """A base that is above, or not in the chain at all, is refused."""
    vm, disk, (first, second) = _chain(kvm_rig, running=False)
    for top, base in ((first, second), (_base(disk), _base(disk)), (first, _overlay(kvm_rig, "no"))):
        with pytest.raises(InvalidArgument):
            kvm_rig.driver.merge_image(vm.name, "vda", top, base, call())


@pytest.mark.parametrize("killed", ["libvirtd", "qemu"])
def test_a_killed_merge_is_ended_by_a_repeat(kvm_rig: KvmRig, killed: str) -> None:
    """A merge whose libvirtd or QEMU was killed before its pivot is ended by the same call again."""
    vm, disk, (_, second) = _chain(kvm_rig, running=True)
    flags = libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE
    vm.domain.blockCommit("vda", str(path_of(disk)), str(second.path), 0, flags)
    if killed == "libvirtd":
        vm.host.kill_libvirtd()
        vm.host.start_libvirtd()
    else:
        vm.kill_qemu()
    kvm_rig.driver.merge_image(vm.name, "vda", second, _base(disk), call())
    assert _images(kvm_rig, vm) == [path_of(disk)]
    if killed == "libvirtd":
        vm.stop()
    assert all(_holds(path_of(disk), number * MIB, number + 1) for number in range(3))


def test_a_revert_by_overlays(kvm_rig: KvmRig) -> None:
    """A stopped VM is switched to a new overlay over an older image; the branch it left can be kept whole."""
    vm, disk, (first, second) = _chain(kvm_rig, running=False)
    branch = _overlay(kvm_rig, "branch")
    for _ in range(2):
        kvm_rig.driver.switch_images(vm.name, {"vda": branch}, {"vda": _base(disk)}, call())
    assert _images(kvm_rig, vm) == [branch.path]
    assert _backing(branch.path) == str(path_of(disk))
    assert _holds(branch.path, MIB, 0)
    assert _holds(branch.path, 0, 1)
    with pytest.raises(InvalidArgument):
        kvm_rig.driver.switch_images(vm.name, {"vda": _overlay(kvm_rig, "x")}, {}, call())
    missing = {"vda": _overlay(kvm_rig, "missing")}
    with pytest.raises(NotFound):
        kvm_rig.driver.switch_images(vm.name, {"vda": _overlay(kvm_rig, "y")}, missing, call())
    assert not (kvm_rig.directory / "y.qcow2").exists()
    assert _images(kvm_rig, vm) == [branch.path]
    vm.start()
    with pytest.raises(InUse):
        kvm_rig.driver.switch_images(vm.name, {"vda": second}, {"vda": first}, call())


@pytest.mark.parametrize("running", [True, False])
def test_other_branches_move_along(kvm_rig: KvmRig, *, running: bool) -> None:
    """An image of another branch that stood on the merged one stands on the base afterwards, unchanged."""
    vm, disk, (first, second) = _chain(kvm_rig, running=False)
    branch = _overlay(kvm_rig, "branch")
    kvm_rig.driver.switch_images(vm.name, {"vda": branch}, {"vda": first}, call())
    if running:
        vm.start()
    for _ in range(2):
        kvm_rig.driver.merge_image(vm.name, "vda", first, _base(disk), call(), dependents=[second])
        first.path.unlink(missing_ok=True)
    assert _backing(second.path) == str(path_of(disk))
    if running:
        vm.stop()
    assert all(_holds(second.path, number * MIB, number + 1) for number in range(3))
    assert _holds(branch.path, MIB, 2)
