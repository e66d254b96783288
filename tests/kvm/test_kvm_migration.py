"""Live migration between two hosts, with and without the disks, and what travels with a VM."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest

from bollard.core.spi import (
    Call,
    DeadlineExceeded,
    FileLocation,
    Introduction,
    InvalidArgument,
    NotFound,
    Outcome,
    StorageError,
    VmState,
)
from bollard.drivers.hypervisor.kvm import KvmDriver
from bollard.drivers.hypervisor.kvm.marks import Mark
from bollard.transfer_objects.ids import HostId, VmSnapshotId
from kvm_driving import MIB, KvmRig, call, driver_for
from kvm_lab import disk_images
from kvm_lab.guests import Guest
from kvm_lab.host import Host

pytest_plugins = ["kvm_rig_fixture"]
pytestmark = pytest.mark.real(root=True)

S1, S2 = VmSnapshotId("s1"), VmSnapshotId("s2")


@pytest.fixture
def both(kvm_rig: KvmRig, second_host: Host) -> Iterator[KvmDriver]:
    """A driver for both hosts."""
    driver = driver_for(kvm_rig.directory, kvm_rig.host, second_host)
    yield driver
    driver.close()


def _guest(rig: KvmRig, driver: KvmDriver, target: Host) -> tuple[Guest, str, Introduction]:
    """Bring up a guest with one file system, which both hosts know."""
    guest, (place,) = rig.guest_with(1)
    guest.shell(f"echo here > {place}/a; echo memory > /tmp/only-here; sync")
    (name,) = rig.known
    disk = rig.introduction(name, rig.directory / f"{name}.qcow2", 64 * MIB)
    driver.introduce(dataclasses.replace(disk, host=HostId(target.name)), call())
    return guest, place, disk


def _arrived(guest: Guest, host: Host) -> None:
    guest.moved_to(host)
    guest.wait()
    assert guest.shell("cat /tmp/only-here") == "memory"


def test_a_guest_moves_with_its_snapshots_and_checkpoints(
    kvm_rig: KvmRig, both: KvmDriver, second_host: Host
) -> None:
    """There and back again: the guest runs on, its snapshots are listed and work, incrementals go on."""
    guest, place, disk = _guest(kvm_rig, both, second_host)
    both.create_vm_snapshot(guest.name, S1, call(), memory=False)
    both.create_vm_snapshot(guest.name, S2, call(), memory=True)
    both.begin_backup(guest.name, "vda", call(), checkpoint="c1")
    both.end_backup(guest.name, "vda", call(), keep=True)
    before = both.vm_snapshot_metadata(guest.name, call())
    both.note_run(guest.name, "one-run", call())
    for target in (second_host, kvm_rig.host):
        for _ in range(2):
            both.migrate_vm(guest.name, HostId(target.name), call())
        _arrived(guest, target)
        assert both.run_note(guest.name, call()) == "one-run"
        assert "one-run" not in guest.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        after = both.vm_snapshot_metadata(guest.name, call())
        assert [(one.snapshot, one.parent, one.current) for one in after] == [
            (one.snapshot, one.parent, one.current) for one in before
        ]
        assert [one.name for one in both.checkpoints(guest.name, call())] == ["c1"]
    guest.shell(f"echo there > {place}/a; sync")
    both.begin_backup(guest.name, "vda", call(), checkpoint="c2", since="c1")
    both.end_backup(guest.name, "vda", call(), keep=True)
    both.revert_vm_snapshot(guest.name, S2, call())
    guest.wait()
    assert guest.shell(f"cat {place}/a") == "here"
    assert both.vm_disks(guest.name, call())[0].object_id == disk.object_id


def test_a_guest_moves_with_its_disk(kvm_rig: KvmRig, both: KvmDriver, second_host: Host) -> None:
    """With a new image the disk moves along: the guest writes there, and the old image stays as it was."""
    guest, place, _ = _guest(kvm_rig, both, second_host)
    new = FileLocation(path=disk_images.qcow2(kvm_rig.directory / "new.qcow2", 64 * MIB, ""), format="qcow2")
    small = FileLocation(path=disk_images.qcow2(kvm_rig.directory / "small.qcow2", MIB, ""), format="qcow2")
    with pytest.raises(InvalidArgument):
        both.migrate_vm(guest.name, HostId(second_host.name), call(), disks={"vda": small})
    both.migrate_vm(guest.name, HostId(second_host.name), call(), disks={"vda": new})
    _arrived(guest, second_host)
    assert [disk.location for disk in both.vm_disks(guest.name, call())] == [new]
    guest.shell(f"echo there > {place}/b; sync")
    assert guest.shell(f"cat {place}/a {place}/b") == "here\nthere"
    guest.stop()
    assert [disk.location for disk in both.vm_disks(guest.name, call())] == [new]


def test_a_host_that_does_not_know_the_disk_is_refused(
    kvm_rig: KvmRig, both: KvmDriver, second_host: Host
) -> None:
    """A VM does not move to where its object was not introduced, nor while it is off, nor to nowhere."""
    guest, _, disk = _guest(kvm_rig, both, second_host)
    both.forget(disk.kind, disk.object_id, HostId(second_host.name), call())
    with pytest.raises(NotFound, match=disk.object_id):
        both.migrate_vm(guest.name, HostId(second_host.name), call())
    with pytest.raises(NotFound):
        both.migrate_vm(guest.name, HostId("host-nobody"), call())
    guest.stop()
    with pytest.raises(InvalidArgument):
        both.migrate_vm(guest.name, HostId(second_host.name), call())


def test_a_migration_that_is_late_is_given_up(kvm_rig: KvmRig, both: KvmDriver, second_host: Host) -> None:
    """A migration that does not end in time or is cancelled leaves the VM where it was, snapshots and all."""
    guest, _, _ = _guest(kvm_rig, both, second_host)
    both.create_vm_snapshot(guest.name, S1, call(), memory=True)
    guest.domain.migrateSetMaxSpeed(1, 0)
    guest.shell("dd if=/dev/urandom of=/tmp/big bs=1M count=20")
    with pytest.raises(DeadlineExceeded) as caught:
        both.migrate_vm(guest.name, HostId(second_host.name), call(2))
    assert caught.value.outcome is Outcome.NOT_APPLIED
    cancelled = Call.within(60)
    threading.Timer(1, cancelled.cancel.set).start()
    with pytest.raises(DeadlineExceeded):
        both.migrate_vm(guest.name, HostId(second_host.name), cancelled)
    guest.wait()
    assert [one.snapshot for one in both.vm_snapshot_metadata(guest.name, call())] == [S1]
    assert both.vm_state(guest.name, call()) is VmState.RUNNING


def test_a_target_that_crashes_leaves_the_vm_where_it_was(kvm_rig: KvmRig, crashable_host: Host) -> None:
    """When the target host dies in the midst the VM runs on at the source, with its snapshots listed."""
    driver = driver_for(kvm_rig.directory, kvm_rig.host, crashable_host)
    guest, _, _ = _guest(kvm_rig, driver, crashable_host)
    driver.create_vm_snapshot(guest.name, S1, call(), memory=True)
    guest.domain.migrateSetMaxSpeed(1, 0)
    guest.shell("dd if=/dev/urandom of=/tmp/big bs=1M count=20")
    threading.Timer(1.5, crashable_host.crash).start()
    with pytest.raises(StorageError):
        driver.migrate_vm(guest.name, HostId(crashable_host.name), call())
    guest.wait()
    listed = kvm_rig.driver.vm_snapshot_metadata(guest.name, call())
    assert [one.snapshot for one in listed] == [S1]
    driver.close()


def test_a_killed_migration_is_told_again(kvm_rig: KvmRig, both: KvmDriver, second_host: Host) -> None:
    """A process that died after libvirt was made to forget: a repeat tells it again, and goes on."""
    guest, _, _ = _guest(kvm_rig, both, second_host)
    both.create_vm_snapshot(guest.name, S1, call(), memory=True)
    kept = [dataclasses.asdict(one) for one in both.vm_snapshot_metadata(guest.name, call())]
    both.drop_vm_snapshot_metadata(guest.name, call())
    mark = Mark(kvm_rig.directory / "state", both._machine(guest.name, call()), "migrating")
    mark.set(json.dumps({"snapshots": kept, "checkpoints": []}))
    both.migrate_vm(guest.name, HostId(second_host.name), call())
    _arrived(guest, second_host)
    assert [one.snapshot for one in both.vm_snapshot_metadata(guest.name, call())] == [S1]
    assert not list(Path(kvm_rig.directory / "state").glob("*/begun/*"))
