"""libvirtd was killed just before it wrote down what QEMU had done: after its restart it believes the old.

The instants are a few milliseconds long, so they are made here: libvirtd's own notes are put back, or spoilt
as a kill at that instant leaves them. What is right then is asked of QEMU and of the images.
"""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import libvirt
import pytest

from bollard.core.spi import (
    FileLocation,
    Introduction,
    InUse,
    Outcome,
    StorageError,
    Unavailable,
    VmState,
)
from bollard.drivers.hypervisor.kvm import vm_snapshots
from bollard.drivers.hypervisor.kvm.connection import HostLink
from bollard.drivers.hypervisor.kvm.marks import Mark
from bollard.drivers.hypervisor.kvm.pivots import noted_pivot
from bollard.transfer_objects.ids import VmId, VmSnapshotId
from kvm_driving import MIB, KvmRig, call, driver_for, path_of
from kvm_lab.host import kill
from kvm_lab.polling import until
from kvm_lab.vms import Vm

pytest_plugins = ["kvm_rig_fixture"]
pytestmark = pytest.mark.real(root=True)

S1, S2 = VmSnapshotId("s1"), VmSnapshotId("s2")
_AGAIN = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT


class Notes:
    """What libvirtd has written down about a VM: of now, and of its next start."""

    def __init__(self, vm: Vm) -> None:
        self._vm = vm
        self.now = vm.host.root / "run" / "qemu" / f"{vm.name}.xml"
        files = (self.now, vm.host.root / "etc" / "qemu" / f"{vm.name}.xml")
        self._content = {file: file.read_bytes() for file in files}

    def put_back(self) -> None:
        """Kill libvirtd as if it had not got any further."""
        self._vm.host.kill_libvirtd()
        for file, content in self._content.items():
            file.write_bytes(content)
        self._vm.host.start_libvirtd()


def _spoil(vm: Vm, *, forget: bool) -> None:
    """Kill libvirtd as if it had not noted the mirror of a job yet, or just begun to strike it out."""
    file = vm.host.root / "run" / "qemu" / f"{vm.name}.xml"
    vm.host.kill_libvirtd()
    tree = ElementTree.parse(file)  # noqa: S314 - libvirt's own
    for disk in tree.iterfind("domain/devices/disk"):
        mirror = disk.find("mirror")
        if mirror is not None and forget:
            disk.remove(mirror)
        elif mirror is not None:
            mirror.set("job", "")
    tree.write(file)
    vm.host.start_libvirtd()


def _with_overlay(rig: KvmRig) -> tuple[Vm, Introduction, FileLocation]:
    """A running VM whose disk has 1 in its base and 2 in an overlay."""
    vm = rig.blank()
    (disk,) = rig.disks(vm, 1)
    overlay = _overlay(rig, "o1")
    vm.write(0, 0, 65536, 1)
    rig.driver.add_overlays(vm.name, {"vda": overlay}, call())
    vm.write(0, MIB, 65536, 2)
    _flush(vm)
    return vm, disk, overlay


def _flush(vm: Vm) -> None:
    """As the guest does; what was not is lost with QEMU."""
    line = 'qemu-io -d /machine/peripheral/virtio-disk0/virtio-backend "flush"'
    vm.qmp("human-monitor-command", **{"command-line": line})


def _overlay(rig: KvmRig, name: str) -> FileLocation:
    return FileLocation(path=rig.directory / f"{name}.qcow2", format="qcow2")


def _commit(vm: Vm, disk: Introduction, overlay: FileLocation) -> None:
    flags = libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE
    vm.domain.blockCommit("vda", str(path_of(disk)), str(overlay.path), 0, flags)


def _written(vm: Vm) -> Path:
    """The file that QEMU writes to."""
    (one,) = (block for block in vm.qmp("query-block") if block.get("inserted"))
    return Path(one["inserted"]["file"])


def _nodes(vm: Vm) -> list[str]:
    return sorted(node["node-name"] for node in vm.qmp("query-named-block-nodes", flat=True))


def _holds(path: Path, offset: int, pattern: int) -> bool:
    command = ["qemu-io", "-r", "-U", "-f", "qcow2", "-c", f"read -P {pattern:#x} {offset} 64k", str(path)]
    said = subprocess.run(command, check=False, capture_output=True, text=True).stdout
    assert "read 65536/65536 bytes" in said, said
    return "Pattern verification failed" not in said


def test_a_merge_whose_mirror_libvirt_forgot_is_ended(kvm_rig: KvmRig) -> None:
    """A merge that libvirtd began and did not note whole is ended by a repeat, and libvirtd lives on."""
    vm, disk, overlay = _with_overlay(kvm_rig)
    _commit(vm, disk, overlay)
    _spoil(vm, forget=True)
    assert vm.domain.blockJobInfo("vda")
    before = vm.host.connection
    kvm_rig.driver.merge_image(vm.name, "vda", overlay, _base(disk), call())
    assert before.isAlive()
    assert _written(vm) == path_of(disk)
    assert vm.domain.blockJobInfo("vda") == {}
    assert "tmp-activewrite" not in json.dumps(vm.qmp("query-named-block-nodes", flat=True))
    kvm_rig.driver.add_overlays(vm.name, {"vda": _overlay(kvm_rig, "o2")}, call())
    vm.stop()
    assert _holds(path_of(disk), 0, 1)
    assert _holds(path_of(disk), MIB, 2)


def test_a_merge_whose_end_libvirt_forgot_is_over(kvm_rig: KvmRig) -> None:
    """The guest is shown to write to the base; libvirt starts it there again, not above the old image."""
    vm, disk, overlay = _with_overlay(kvm_rig)
    _commit(vm, disk, overlay)
    until(lambda: "ready='yes'" in vm.domain.XMLDesc(), 60, "the merge to be ready")
    notes = Notes(vm)
    _mark(kvm_rig, vm, "pivoting").set(noted_pivot("vda", overlay, _base(disk)))
    vm.domain.blockJobAbort("vda", libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
    until(lambda: "<mirror" not in vm.domain.XMLDesc(), 60, "the merge to end")
    notes.put_back()
    vm.write(0, 2 * MIB, 65536, 3)
    for _ in range(2):
        kvm_rig.driver.merge_image(vm.name, "vda", overlay, _base(disk), call())
        (shown,) = kvm_rig.driver.vm_disks(VmId(vm.name), call())
        assert shown.location == _base(disk)
    overlay.path.unlink()
    assert kvm_rig.driver.vm_disks(VmId(vm.name), call()) == [shown]
    vm.stop()
    vm.start()
    assert _written(vm) == path_of(disk)
    kvm_rig.driver.add_overlays(vm.name, {"vda": overlay}, call())
    vm.stop()
    assert all(_holds(path_of(disk), number * MIB, number + 1) for number in range(3))


def test_a_vm_that_libvirt_forgot_at_a_pivot_starts_with_the_base(kvm_rig: KvmRig) -> None:
    """What the guest wrote to the base after the merge is not hidden by the merged image."""
    vm, disk, overlay = _with_overlay(kvm_rig)
    _commit(vm, disk, overlay)
    until(lambda: "ready='yes'" in vm.domain.XMLDesc(), 60, "the merge to be ready")
    notes = Notes(vm)
    _mark(kvm_rig, vm, "pivoting").set(noted_pivot("vda", overlay, _base(disk)))
    vm.domain.blockJobAbort("vda", libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
    until(lambda: "<mirror" not in vm.domain.XMLDesc(), 60, "the merge to end")
    vm.write(0, MIB, 65536, 3)
    _flush(vm)
    qemu = vm.host.qemu_pid(vm.name)
    notes.put_back()
    _spoil(vm, forget=False)
    assert kvm_rig.driver.vm_state(vm.name, call()) is VmState.STOPPED
    with pytest.raises(InUse):
        kvm_rig.driver.start_vm(VmId(vm.name), call())
    kvm_rig.driver.merge_image(vm.name, "vda", overlay, _base(disk), call())
    kill(qemu)
    overlay.path.unlink()
    kvm_rig.driver.start_vm(VmId(vm.name), call())
    assert _written(vm) == path_of(disk)
    assert _holds(path_of(disk), 0, 1)
    assert _holds(path_of(disk), MIB, 3)
    assert not list((kvm_rig.directory / "state").glob("*/begun/*"))


def _base(disk: Introduction) -> FileLocation:
    return FileLocation(path=path_of(disk), format="qcow2")


def test_a_vm_that_libvirt_forgot_is_left_alone(kvm_rig: KvmRig) -> None:
    """A VM shown as off, because libvirt 9.0 cannot read its own notes: nothing is changed below its QEMU."""
    vm, disk, overlay = _with_overlay(kvm_rig)
    _commit(vm, disk, overlay)
    qemu = vm.host.qemu_pid(vm.name)
    _spoil(vm, forget=False)
    assert kvm_rig.driver.vm_state(vm.name, call()) is VmState.STOPPED
    assert qemu == vm.host.qemu_pid(vm.name)
    for act in (
        lambda: kvm_rig.driver.merge_image(vm.name, "vda", overlay, _base(disk), call()),
        lambda: kvm_rig.driver.start_vm(VmId(vm.name), call()),
    ):
        with pytest.raises(InUse) as caught:
            act()
        assert caught.value.outcome is Outcome.NOT_APPLIED
    kill(qemu)
    kvm_rig.driver.merge_image(vm.name, "vda", overlay, _base(disk), call())
    overlay.path.unlink()
    kvm_rig.driver.start_vm(VmId(vm.name), call())
    assert _written(vm) == path_of(disk)
    assert _holds(path_of(disk), 0, 1)
    assert _holds(path_of(disk), MIB, 2)


@pytest.mark.parametrize("then", ["looked at", "repeated", "killed", "killed and gone on"])
def test_an_overlay_that_libvirt_forgot_is_brought_back(kvm_rig: KvmRig, then: str) -> None:
    """What the guest wrote to an overlay unknown to libvirt is in the base then, and no file is left."""
    vm = kvm_rig.blank()
    (disk,) = kvm_rig.disks(vm, 1)
    vm.write(0, 0, 65536, 1)
    nodes, notes, overlay = _nodes(vm), Notes(vm), _overlay(kvm_rig, "o1")
    kvm_rig.driver.add_overlays(vm.name, {"vda": overlay}, call())
    vm.write(0, MIB, 65536, 2)
    _flush(vm)
    _begun(kvm_rig, vm, overlay)
    notes.put_back()
    assert _written(vm) == overlay.path
    if then.startswith("killed"):
        vm.kill_qemu()
    if then == "killed and gone on":
        os.utime(path_of(disk))
    driver = driver_for(kvm_rig.directory, kvm_rig.host)
    if then == "repeated":
        driver.add_overlays(vm.name, {"vda": overlay}, call())
        assert _written(vm) == overlay.path
        assert len(_nodes(vm)) == len(nodes) + 2
    else:
        (shown,) = driver.vm_disks(VmId(vm.name), call())
        assert shown.location == _base(disk)
        assert not overlay.path.exists()
        assert vm.domain.isActive() == (then == "looked at")
    if then == "looked at":
        assert _written(vm) == path_of(disk)
        assert _nodes(vm) == nodes
        vm.stop()
    driver.close()
    assert _holds(path_of(disk), 0, 1)
    assert _holds(path_of(disk), MIB, 2) == (then != "killed and gone on")
    assert not list((kvm_rig.directory / "state").glob("*/begun/*"))


def _begun(rig: KvmRig, vm: Vm, overlay: FileLocation) -> None:
    _mark(rig, vm, "overlaying").set(json.dumps({"vda": str(overlay.path)}))


def _mark(rig: KvmRig, vm: Vm, what: str) -> Mark:
    return Mark(rig.directory / "state", rig.driver._machine(VmId(vm.name), call()), what)


@pytest.mark.parametrize("loaded", [True, False])
def test_a_revert_that_libvirt_forgot_is_known_by_its_qemu(kvm_rig: KvmRig, *, loaded: bool) -> None:
    """The snapshot that a new QEMU has loaded is the current one; with the old QEMU nothing is reverted."""
    vm = kvm_rig.blank()
    (disk,) = kvm_rig.disks(vm, 1)
    for number, snapshot in enumerate((S1, S2), 1):
        vm.write(0, 0, 65536, number)
        kvm_rig.driver.create_vm_snapshot(vm.name, snapshot, call(), memory=True)
    vm.write(0, 0, 65536, 3)
    _mark(kvm_rig, vm, "reverting").set(f"applying stay {S1} {vm.domain.ID()}")
    if loaded:
        second = vm.domain.snapshotLookupByName(S2).getXMLDesc()
        paused = libvirt.VIR_DOMAIN_SNAPSHOT_REVERT_PAUSED
        vm.domain.revertToSnapshot(vm.domain.snapshotLookupByName(S1), paused)
        vm.domain.snapshotCreateXML(second, _AGAIN)
    told = kvm_rig.driver.vm_snapshot_metadata(VmId(vm.name), call())
    assert [one.snapshot for one in told if one.current] == [S1 if loaded else S2]
    assert not list((kvm_rig.directory / "state").glob("*/begun/*"))
    vm.stop()
    assert _holds(path_of(disk), 0, 1 if loaded else 3)


@pytest.mark.parametrize("loaded", [True, False])
def test_a_revert_whose_answer_was_lost_is_told_as_it_is(
    kvm_rig: KvmRig, monkeypatch: pytest.MonkeyPatch, *, loaded: bool
) -> None:
    """It succeeds if the new QEMU has loaded the snapshot, and is "not applied" with the old one."""
    vm = kvm_rig.blank()
    (disk,) = kvm_rig.disks(vm, 1)
    vm.write(0, 0, 65536, 1)
    kvm_rig.driver.create_vm_snapshot(vm.name, S1, call(), memory=True)
    vm.write(0, 0, 65536, 2)
    whole = vm_snapshots._revert

    def cut(domain: libvirt.virDomain, snapshot: str, flags: int) -> None:
        if loaded:
            whole(domain, snapshot, flags)
        raise libvirt.libvirtError("the answer is lost")

    monkeypatch.setattr(vm_snapshots, "_revert", cut)
    with nullcontext() if loaded else pytest.raises(StorageError) as caught:
        kvm_rig.driver.revert_vm_snapshot(vm.name, S1, call())
    assert caught is None or caught.value.outcome is Outcome.NOT_APPLIED
    vm.stop()
    assert _holds(path_of(disk), 0, 1 if loaded else 2)


def test_a_pause_that_could_not_be_ended_is_told(kvm_rig: KvmRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A libvirtd that dies while the guest is paused for a deletion leaves "unknown": a repeat goes on."""
    vm = kvm_rig.blank()
    kvm_rig.disks(vm, 1)
    vm.domain.resume()
    kvm_rig.driver.create_vm_snapshot(vm.name, S1, call(), memory=False)
    whole = HostLink.act

    def act(link: HostLink, *arguments: Any) -> Any:
        if "snapshot-delete" in arguments[-1]:
            vm.host.kill_libvirtd()
        return whole(link, *arguments)

    monkeypatch.setattr(HostLink, "act", act)
    with pytest.raises(Unavailable) as caught:
        kvm_rig.driver.delete_vm_snapshot(vm.name, S1, call())
    assert caught.value.outcome is Outcome.UNKNOWN
    monkeypatch.undo()
    vm.host.start_libvirtd()
    assert kvm_rig.driver.vm_state(vm.name, call()) is VmState.PAUSED
    kvm_rig.driver.delete_vm_snapshot(vm.name, S1, call())
    assert kvm_rig.driver.vm_state(vm.name, call()) is VmState.RUNNING
