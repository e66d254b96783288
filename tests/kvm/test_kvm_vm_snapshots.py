"""VM snapshots on real images: all disks at one instant, all back or none, none forgotten."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import libvirt
import pytest

from bollard.core.spi import (
    Conflict,
    DataLoss,
    Introduction,
    InUse,
    InvalidArgument,
    NotFound,
    Outcome,
    StorageError,
    Unsupported,
    VmState,
)
from bollard.drivers.hypervisor.kvm.marks import Mark
from bollard.drivers.hypervisor.kvm.snapshot_tags import SnapshotTags
from bollard.simulators.hypervisor.pattern import BLOCK, Block, examine
from bollard.transfer_objects.ids import VmSnapshotId
from kvm_driving import MIB, KvmRig, call, device_in, path_of
from kvm_lab.host import kill
from kvm_lab.polling import until
from kvm_lab.vms import Vm
from kvm_writing import writing_guest

pytest_plugins = ["kvm_rig_fixture"]
pytestmark = pytest.mark.real(root=True)

S1, S2, S3 = (VmSnapshotId(f"s{number}") for number in (1, 2, 3))


def _tags(disk: Introduction) -> list[str]:
    info = json.loads(_img("info", "-U", "--output", "json", "-f", "qcow2", path_of(disk)))
    return [one["name"] for one in info.get("snapshots", [])]


def _img(*arguments: object) -> bytes:
    command = ["qemu-img", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def _pattern(disk: Introduction) -> int:
    """Return the byte at 1 MiB of a disk that nobody has open."""
    command = ["qemu-io", "-r", "-f", "qcow2", "-c", f"read -v {MIB} 16", str(path_of(disk))]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return int(printed.split(":")[1].split()[0], 16)


def _write(vm: Vm, disks: Sequence[Introduction], pattern: int) -> None:
    """Write one byte pattern to all disks, through QEMU or behind its back."""
    for number, disk in enumerate(disks):
        if vm.domain.isActive():
            vm.write(number, MIB, 4096, pattern)
        else:
            command = [
                "qemu-io",
                "-f",
                "qcow2",
                "-c",
                f"write -P {pattern:#x} {MIB} 4096",
                str(path_of(disk)),
            ]
            subprocess.run(command, check=True, capture_output=True)


def _stopped(rig: KvmRig, count: int = 2) -> tuple[Vm, list[Introduction]]:
    vm = rig.blank()
    vm.stop()
    return vm, rig.disks(vm, count)


def _listed(vm: Vm) -> list[str]:
    return sorted(vm.domain.snapshotListNames())


def test_memory_and_disks_come_back(kvm_rig: KvmRig) -> None:
    """A running guest goes back to its snapshot with memory: files and what only its memory knew."""
    guest, (first, second) = kvm_rig.guest_with(2)
    guest.shell(f"echo then > {first}/a; echo then > {second}/b; sync; echo memory > /tmp/only-here")
    kvm_rig.driver.create_vm_snapshot(guest.name, S1, call(), memory=True)
    guest.shell(f"echo now > {first}/a; echo now > {second}/b; sync; rm /tmp/only-here")
    kvm_rig.driver.create_vm_snapshot(guest.name, S1, call(), memory=True)
    kvm_rig.driver.revert_vm_snapshot(guest.name, S1, call())
    guest.wait()
    assert guest.shell(f"cat {first}/a {second}/b /tmp/only-here") == "then\nthen\nmemory"
    assert kvm_rig.driver.vm_state(guest.name, call()) is VmState.RUNNING
    kvm_rig.driver.stop_vm(guest.name, call(), force=True)
    kvm_rig.driver.revert_vm_snapshot(guest.name, S1, call())
    guest.wait()
    assert guest.shell("cat /tmp/only-here") == "memory"
    kvm_rig.driver.delete_vm_snapshot(guest.name, S1, call())
    assert kvm_rig.driver.vm_state(guest.name, call()) is VmState.RUNNING
    kvm_rig.driver.stop_vm(guest.name, call(), force=True)
    assert [_tags(path) for path in _volumes(kvm_rig)] == [[], []]


def _volumes(rig: KvmRig) -> list[Introduction]:
    return [rig.introduction(name, rig.directory / f"{name}.qcow2", 64 * MIB) for name in rig.known]


def test_disks_of_a_running_vm_show_one_instant(kvm_rig: KvmRig) -> None:
    """A snapshot without memory is on all disks of a running VM; libvirt lists it; it comes back when off."""
    vm = kvm_rig.blank()
    disks = kvm_rig.disks(vm)
    _write(vm, disks, 1)
    for _ in range(2):
        kvm_rig.driver.create_vm_snapshot(vm.name, S1, call(), memory=False)
    _write(vm, disks, 2)
    with pytest.raises(InUse):
        kvm_rig.driver.revert_vm_snapshot(vm.name, S1, call())
    assert _listed(vm) == [S1]
    kvm_rig.driver.create_vm_snapshot(vm.name, S2, call(), memory=False)
    vm.stop()
    for snapshot, pattern in ((S1, 1), (S2, 2), (S1, 1)):
        kvm_rig.driver.revert_vm_snapshot(vm.name, snapshot, call())
        assert [_pattern(disk) for disk in disks] == [pattern, pattern]
        assert vm.domain.snapshotCurrent().getName() == snapshot
        assert [_tags(disk) for disk in disks] == [[S1, S2], [S1, S2]]


def test_deleting_one_keeps_the_others(kvm_rig: KvmRig) -> None:
    """The middle one of three goes from all disks of a VM that is off; its child moves to its parent."""
    vm, disks = _stopped(kvm_rig)
    for pattern, snapshot in enumerate((S1, S2, S3), 1):
        _write(vm, disks, pattern)
        kvm_rig.driver.create_vm_snapshot(vm.name, snapshot, call(), memory=False)
    for _ in range(2):
        kvm_rig.driver.delete_vm_snapshot(vm.name, S2, call())
    assert [_tags(disk) for disk in disks] == [[S1, S3], [S1, S3]]
    metadata = kvm_rig.driver.vm_snapshot_metadata(vm.name, call())
    assert [(one.snapshot, one.parent, one.current) for one in metadata] == [
        (S1, None, False),
        (S3, S1, True),
    ]
    assert [_pattern(disk) for disk in disks] == [3, 3]
    kvm_rig.driver.revert_vm_snapshot(vm.name, S1, call())
    assert [_pattern(disk) for disk in disks] == [1, 1]
    with pytest.raises(NotFound):
        kvm_rig.driver.revert_vm_snapshot(vm.name, S2, call())


def test_a_deletion_leaves_nothing_on_any_disk(kvm_rig: KvmRig) -> None:
    """What libvirt does not list is deleted from all disks too, also where it is there twice, on and off."""
    vm, disks = _stopped(kvm_rig)
    for disk in disks:
        for _ in range(2):
            _img("snapshot", "-c", S1, path_of(disk))
    kvm_rig.driver.delete_vm_snapshot(vm.name, S1, call())
    assert [_tags(disk) for disk in disks] == [[], []]
    for disk in disks:
        for _ in range(2):
            _img("snapshot", "-c", S1, path_of(disk))
    vm.start()
    kvm_rig.driver.delete_vm_snapshot(vm.name, S1, call())
    assert kvm_rig.driver.vm_state(vm.name, call()) is VmState.RUNNING
    vm.stop()
    assert [_tags(disk) for disk in disks] == [[], []]


def test_leftovers_of_a_killed_snapshot_are_replaced(kvm_rig: KvmRig) -> None:
    """A snapshot that only some disks have, or twice, is taken anew by a repeat: once on each disk."""
    vm, disks = _stopped(kvm_rig)
    _img("snapshot", "-c", S1, path_of(disks[0]))
    _write(vm, disks, 7)
    kvm_rig.driver.create_vm_snapshot(vm.name, S1, call(), memory=False)
    assert [_tags(disk) for disk in disks] == [[S1], [S1]]
    _write(vm, disks, 8)
    kvm_rig.driver.revert_vm_snapshot(vm.name, S1, call())
    assert [_pattern(disk) for disk in disks] == [7, 7]


def test_what_cannot_hold_a_snapshot_is_refused_before(kvm_rig: KvmRig) -> None:
    """A raw disk beside a qcow2 one: refused, and the other disk has no part of it."""
    vm, (disk,) = _stopped(kvm_rig, 1)
    kvm_rig.attach(vm, kvm_rig.volume(size=MIB, format_="raw"))
    with pytest.raises(Unsupported, match="vdb"):
        kvm_rig.driver.create_vm_snapshot(vm.name, S1, call(), memory=False)
    kvm_rig.driver.delete_vm_snapshot(vm.name, S1, call())
    assert _tags(disk) == []
    with pytest.raises(InvalidArgument):
        kvm_rig.driver.create_vm_snapshot(vm.name, VmSnapshotId("../x"), call(), memory=False)


def test_memory_of_a_stopped_vm_is_refused(kvm_rig: KvmRig) -> None:
    """A VM that is off has no memory."""
    vm, (disk,) = _stopped(kvm_rig, 1)
    with pytest.raises(InvalidArgument):
        kvm_rig.driver.create_vm_snapshot(vm.name, S1, call(), memory=True)
    assert _tags(disk) == []


def test_a_snapshot_that_fails_leaves_no_part(kvm_rig: KvmRig) -> None:
    """Where the second disk cannot be snapshotted, the first has nothing of it."""
    vm, disks = _stopped(kvm_rig)
    holder = subprocess.Popen(
        ["qemu-io", "-f", "qcow2", str(path_of(disks[1]))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdin
        assert holder.stdout
        holder.stdin.write(b"length\n")
        holder.stdin.flush()
        holder.stdout.readline()  # it has the lock now
        with pytest.raises(InUse) as caught:
            kvm_rig.driver.create_vm_snapshot(vm.name, S1, call(), memory=False)
        assert caught.value.outcome is Outcome.NOT_APPLIED
    assert [_tags(disk) for disk in disks] == [[], []]


def test_a_failed_revert_changes_no_disk(kvm_rig: KvmRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the second disk cannot be put back, the first is put back to where it was, with nothing left."""
    vm, disks = _stopped(kvm_rig)
    _write(vm, disks, 1)
    kvm_rig.driver.create_vm_snapshot(vm.name, S1, call(), memory=False)
    _write(vm, disks, 2)
    whole = SnapshotTags._offline

    def fails(self: SnapshotTags, act: str, tag: str, device: str, call_) -> None:
        if (act, tag, device) == ("-a", S1, "vdb"):
            raise StorageError("the disk is broken")
        whole(self, act, tag, device, call_)

    monkeypatch.setattr(SnapshotTags, "_offline", fails)
    with pytest.raises(StorageError, match="broken") as caught:
        kvm_rig.driver.revert_vm_snapshot(vm.name, S1, call())
    assert caught.value.outcome is Outcome.NOT_APPLIED
    assert [_pattern(disk) for disk in disks] == [2, 2]
    assert [_tags(disk) for disk in disks] == [[S1], [S1]]


def test_a_killed_revert_is_undone_before_the_vm_starts(kvm_rig: KvmRig) -> None:
    """A revert that ended after the first disk is undone by the next start, on all disks."""
    vm, disks = _stopped(kvm_rig)
    _write(vm, disks, 1)
    kvm_rig.driver.create_vm_snapshot(vm.name, S1, call(), memory=False)
    _write(vm, disks, 2)
    machine = kvm_rig.driver._machine(vm.name, call())
    for disk in disks:
        _img("snapshot", "-c", "bollard.undo", path_of(disk))
    Mark(kvm_rig.directory / "state", machine, "reverting").set("applying stay")
    _img("snapshot", "-a", S1, path_of(disks[0]))
    kvm_rig.driver.start_vm(vm.name, call())
    vm.stop()
    assert [_pattern(disk) for disk in disks] == [2, 2]
    assert [_tags(disk) for disk in disks] == [[S1], [S1]]


def test_a_revert_needs_the_disks_of_then(kvm_rig: KvmRig) -> None:
    """With another disk than then, or one that lost the snapshot, nothing is put back."""
    vm, disks = _stopped(kvm_rig)
    kvm_rig.driver.create_vm_snapshot(vm.name, S1, call(), memory=False)
    _write(vm, disks, 2)
    more = kvm_rig.volume()
    kvm_rig.attach(vm, more)
    with pytest.raises(Conflict):
        kvm_rig.driver.revert_vm_snapshot(vm.name, S1, call())
    kvm_rig.driver.detach(vm.name, kvm_rig.known[more.object_id], call())
    _img("snapshot", "-d", S1, path_of(disks[1]))
    with pytest.raises(DataLoss, match="vdb"):
        kvm_rig.driver.revert_vm_snapshot(vm.name, S1, call())
    assert [_pattern(disk) for disk in disks] == [2, 2]


@pytest.mark.parametrize("memory", [True, False])
def test_checkpoints_do_not_keep_a_vm_from_its_snapshot(kvm_rig: KvmRig, *, memory: bool) -> None:
    """A revert takes bitmaps away, without which it would fail and leave the VM off."""
    guest, (place,) = kvm_rig.guest_with(1)
    guest.shell(f"echo then > {place}/a; sync")
    kvm_rig.driver.create_vm_snapshot(guest.name, S1, call(), memory=memory)
    disks = "<disks><disk name='vda' checkpoint='bitmap'/></disks>"
    text = f"<domaincheckpoint><name>c1</name>{disks}</domaincheckpoint>"
    guest.domain.checkpointCreateXML(text, 0)
    guest.shell(f"echo now > {place}/a; sync")
    if not memory:
        kvm_rig.driver.stop_vm(guest.name, call())
    kvm_rig.driver.revert_vm_snapshot(guest.name, S1, call())
    kvm_rig.driver.start_vm(guest.name, call())
    guest.wait()
    place = guest.mounted(place.rsplit("/", 1)[1])
    assert guest.shell(f"cat {place}/a") == "then"
    assert guest.domain.listAllCheckpoints() == []


def test_metadata_leaves_and_returns(kvm_rig: KvmRig) -> None:
    """The register is emptied and filled again, parents first, with the current one marked; data stays."""
    vm = kvm_rig.blank()
    disks = kvm_rig.disks(vm)
    kvm_rig.driver.create_vm_snapshot(vm.name, S1, call(), memory=True)
    kvm_rig.driver.create_vm_snapshot(vm.name, S2, call(), memory=False)
    kvm_rig.driver.create_vm_snapshot(vm.name, S3, call(), memory=True)
    kvm_rig.driver.revert_vm_snapshot(vm.name, S1, call())
    kept = kvm_rig.driver.vm_snapshot_metadata(vm.name, call())
    assert [(one.snapshot, one.parent, one.current) for one in kept] == [
        (S1, None, True),
        (S2, S1, False),
        (S3, S2, False),
    ]
    for _ in range(2):
        kvm_rig.driver.drop_vm_snapshot_metadata(vm.name, call())
    assert _listed(vm) == []
    xml = vm.domain.XMLDesc(2)
    vm.stop()
    vm.domain.undefine()
    vm.host.connection.defineXML(xml)
    for _ in range(2):
        kvm_rig.driver.restore_vm_snapshot_metadata(vm.name, kept, call())
    again = kvm_rig.driver.vm_snapshot_metadata(vm.name, call())
    assert [(one.snapshot, one.parent, one.current) for one in again] == [
        (one.snapshot, one.parent, one.current) for one in kept
    ]
    assert [_tags(disk) for disk in disks] == [[S1, S2, S3], [S1, S2, S3]]
    kvm_rig.driver.revert_vm_snapshot(vm.name, S3, call())
    assert kvm_rig.driver.vm_state(vm.name, call()) is VmState.PAUSED


@pytest.mark.slow
@pytest.mark.parametrize("killed", ["libvirtd", "qemu"])
def test_kill_9_during_a_snapshot_leaves_nothing_half(kvm_rig: KvmRig, killed: str) -> None:
    """After kill -9 of libvirtd or QEMU while memory is saved, a repeat or a deletion leaves all in order."""
    guest, (place,) = kvm_rig.guest_with(1)
    guest.shell(f"dd if=/dev/urandom of=/tmp/big bs=1M count=20; echo data > {place}/a; sync")
    failed = []

    def take() -> None:
        try:
            kvm_rig.driver.create_vm_snapshot(guest.name, S1, call(), memory=True)
        except StorageError as error:
            failed.append(error)

    taking = threading.Thread(target=take)
    taking.start()
    until(lambda: guest.state == libvirt.VIR_DOMAIN_PAUSED, 60, "the snapshot to begin")
    guest.kill_qemu() if killed == "qemu" else guest.host.kill_libvirtd()
    guest.host.start_libvirtd()
    taking.join()
    (disk,) = _volumes(kvm_rig)
    kvm_rig.driver.start_vm(guest.name, call())
    guest.wait()
    kvm_rig.driver.create_vm_snapshot(guest.name, S1, call(), memory=True)
    assert kvm_rig.driver.vm_state(guest.name, call()) is VmState.RUNNING
    kvm_rig.driver.revert_vm_snapshot(guest.name, S1, call())
    guest.wait()
    kvm_rig.driver.delete_vm_snapshot(guest.name, S1, call())
    assert guest.read_file(f"{guest.mounted(disk.object_id)}/a") == b"data\n"
    guest.stop()
    assert _tags(disk) == []


def test_a_deleted_snapshot_leaves_the_guest_running(kvm_rig: KvmRig) -> None:
    """While a snapshot goes the guest is paused, and goes on afterwards, also when the deletion fails."""
    guest = kvm_rig.guest()
    (disk,) = kvm_rig.disks(guest, 1)
    device_in(guest, disk)
    kvm_rig.driver.create_vm_snapshot(guest.name, S1, call(), memory=False)
    kvm_rig.driver.delete_vm_snapshot(guest.name, S1, call())
    assert kvm_rig.driver.vm_state(guest.name, call()) is VmState.RUNNING
    assert _listed(guest) == []


@pytest.mark.parametrize("memory", [True, False])
def test_disks_that_are_written_all_the_time_show_one_instant(kvm_rig: KvmRig, *, memory: bool) -> None:
    """A guest writes numbered blocks to two disks in turn; a snapshot lacks none before its newest."""
    guest = writing_guest(kvm_rig)
    disks = kvm_rig.disks(guest)
    until(lambda: guest.device_of(disks[1].object_id), 60, "the guest to see its disks")
    before = guest.shell("cat /sys/block/vd[bc]/stat")
    until(lambda: guest.shell("cat /sys/block/vd[bc]/stat") != before, 60, "the guest to write")
    for number in range(3):
        kvm_rig.driver.create_vm_snapshot(guest.name, VmSnapshotId(f"s{number}"), call(), memory=memory)
    guest.stop()
    for number in range(3):
        cut = examine(_copies(kvm_rig, disks, f"s{number}"))
        assert cut.problems == ()
        assert cut.generation > 0


def _copies(rig: KvmRig, disks: Sequence[Introduction], snapshot: str) -> dict[str, Path]:
    """Return raw copies of what a snapshot holds, by the names that the guest writes into its blocks."""
    copies = {}
    for disk in disks:
        raw = rig.directory / f"{disk.object_id}.{snapshot}"
        _img("convert", "-f", "qcow2", "-O", "raw", "-l", f"snapshot.name={snapshot}", path_of(disk), raw)
        with raw.open("rb") as file:
            file.seek(-64 * BLOCK, 2)
            names = {block.disk for _ in range(64) if (block := Block.unpack(file.read(BLOCK)))}
        assert len(names) == 1
        copies[names.pop()] = raw
    return copies


@pytest.mark.slow
@pytest.mark.parametrize("killed", ["libvirtd", "qemu"])
def test_kill_9_during_a_revert_puts_all_disks_back_or_none(kvm_rig: KvmRig, killed: str) -> None:
    """After kill -9 of libvirtd or QEMU in a revert all disks show one state, and a repeat ends it."""
    vm = kvm_rig.blank()
    disks = kvm_rig.disks(vm)
    _write(vm, disks, 1)
    kvm_rig.driver.create_vm_snapshot(vm.name, S1, call(), memory=True)
    _write(vm, disks, 2)
    before = kvm_rig.host.qemu_pid(vm.name)
    reverting = threading.Thread(target=_tolerantly, args=(kvm_rig, vm, S1))
    reverting.start()
    until(lambda: kvm_rig.host.qemu_pid(vm.name) not in (before, 0), 60, "the new QEMU")
    if killed == "libvirtd":
        kvm_rig.host.kill_libvirtd()
    else:
        kill(kvm_rig.host.qemu_pid(vm.name))
    kvm_rig.host.start_libvirtd()
    reverting.join()
    kvm_rig.driver.start_vm(vm.name, call())
    kvm_rig.driver.stop_vm(vm.name, call(), force=True)
    assert {_pattern(disk) for disk in disks} in ({1}, {2})
    assert [_tags(disk) for disk in disks] == [[S1], [S1]]
    kvm_rig.driver.revert_vm_snapshot(vm.name, S1, call())
    kvm_rig.driver.stop_vm(vm.name, call(), force=True)
    assert [_pattern(disk) for disk in disks] == [1, 1]


def _tolerantly(rig: KvmRig, vm: Vm, snapshot: VmSnapshotId) -> None:
    with suppress(StorageError):
        rig.driver.revert_vm_snapshot(vm.name, snapshot, call())
