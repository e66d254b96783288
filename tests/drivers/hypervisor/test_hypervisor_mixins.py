"""What the simulated hypervisor's driver offers beyond attach and freeze."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bollard.core.spi import (
    Call,
    Capability,
    DeadlineExceeded,
    FileLocation,
    InUse,
    InvalidArgument,
    NbdLocation,
    Outcome,
    Unavailable,
    Unsupported,
    VmState,
)
from bollard.transfer_objects.ids import VmSnapshotId
from vm_cloud import MIB, VM, SimulatedCloud, call


@pytest.fixture
def cloud(tmp_path) -> Iterator[SimulatedCloud]:
    """A KVM cloud with a VM of two files."""
    with SimulatedCloud(tmp_path) as opened:
        yield opened


def raw(path: Path) -> FileLocation:
    """A location."""
    return FileLocation(path=path, format="raw")


def test_only_kvm_has_overlays_and_backups(tmp_path, cloud):
    """The others say so before anybody tries."""
    assert cloud.driver.unavailable(call()) == {}
    with SimulatedCloud(tmp_path / "other", personality="Hyperv") as other:
        assert set(other.driver.unavailable(call())) == {Capability.OVERLAYS, Capability.BACKUPS}


def test_power_twice(cloud):
    """Starting what runs and stopping what is off is fine."""
    for act, state in ((cloud.driver.start_vm, VmState.RUNNING), (cloud.driver.stop_vm, VmState.STOPPED)):
        for _ in range(2):
            act(VM, call())
        assert cloud.state() is state


def test_a_guest_that_does_not_shut_down_runs_on(cloud):
    """Until the deadline it is waited for; its power can be cut at any time."""
    cloud.start()
    cloud.driver.freeze(VM, Call.within(100))
    with pytest.raises(DeadlineExceeded):
        cloud.driver.stop_vm(VM, Call.within(0.3))
    assert cloud.state() is VmState.RUNNING
    cloud.driver.stop_vm(VM, call(), force=True)
    assert cloud.state() is VmState.STOPPED


def test_disks_are_told_with_volume_and_place(tmp_path, cloud):
    """In the order of their devices; an export's name is a secret that the cluster keeps."""
    disks = cloud.driver.vm_disks(VM, call())
    assert [(one.device, one.object_id, one.size) for one in disks] == [
        ("vda", "vol-0", MIB),
        ("vdb", "vol-1", MIB),
    ]
    assert all(isinstance(one.location, FileLocation) for one in disks)
    assert [cloud.driver.vms_with(name, call()) for name in ("vol-1", "nobodys")] == [[VM], []]
    with SimulatedCloud(tmp_path / "lun", ("array",)) as other:
        (lun,) = other.driver.vm_disks(VM, call())
        assert isinstance(lun.location, NbdLocation)
        assert lun.size == MIB


def test_a_disk_grows_and_does_not_shrink(cloud):
    """The new size is told at once."""
    cloud.start()
    cloud.driver.resize_disk(VM, "vdb", 2 * MIB, call())
    assert [one.size for one in cloud.driver.vm_disks(VM, call())] == [MIB, 2 * MIB]
    for device, size in (("vdb", MIB), ("vdz", 4 * MIB)):
        with pytest.raises(InvalidArgument):
            cloud.driver.resize_disk(VM, device, size, call())


def test_overlays_are_raw_and_switch_on_stopped_vms(cloud):
    """What the simulator cannot do is refused, by the right name."""
    base = cloud.driver.vm_disks(VM, call())[0].location
    assert isinstance(base, FileLocation)
    over = base.path.with_name("vol-0.s1.vms.raw")
    cloud.start()
    with pytest.raises(Unsupported, match="raw"):
        cloud.driver.add_overlays(VM, {"vda": FileLocation(path=over, format="qcow2")}, call())
    with pytest.raises(InvalidArgument, match="other devices"):
        cloud.driver.switch_images(VM, {"vda": raw(over)}, {"vdb": base}, call())
    with pytest.raises(InUse):
        cloud.driver.switch_images(VM, {"vda": raw(over)}, {"vda": base}, call())
    cloud.driver.add_overlays(VM, {"vda": raw(over)}, call(), quiesce=True)
    assert cloud.driver.vm_disks(VM, call())[0].location == raw(over)
    cloud.driver.merge_image(VM, "vda", raw(over), base, call())
    assert cloud.driver.vm_disks(VM, call())[0].location == base


def test_a_quiesced_overlay_without_an_agent(tmp_path):
    """`Unavailable`, and nothing has changed."""
    with SimulatedCloud(tmp_path, ()) as cloud:
        image = tmp_path / "a.raw"
        image.write_bytes(bytes(MIB))
        disks = {"a": {"address": {"path": str(image)}}}
        body = {"host": "h1", "agent": False, "disks": disks}
        cloud.http.put("/vms/vm-2", json=body).raise_for_status()
        cloud.http.post("/vms/vm-2/start").raise_for_status()
        with pytest.raises(Unavailable) as caught:
            cloud.driver.add_overlays("vm-2", {"vda": raw(tmp_path / "o.raw")}, call(), quiesce=True)
        assert caught.value.outcome is Outcome.NOT_APPLIED
        assert not (tmp_path / "o.raw").exists()


def test_the_register_is_told_parents_first(cloud):
    """Emptied and filled in any order, it is the same."""
    for name in ("z", "y", "x"):
        cloud.driver.create_vm_snapshot(VM, VmSnapshotId(name), call(), memory=False)
    known = cloud.driver.vm_snapshot_metadata(VM, call())
    assert [(one.snapshot, one.parent, one.current) for one in known] == [
        ("z", None, False),
        ("y", "z", False),
        ("x", "y", True),
    ]
    for _ in range(2):
        cloud.driver.drop_vm_snapshot_metadata(VM, call())
    assert cloud.driver.vm_snapshot_metadata(VM, call()) == []
    cloud.driver.restore_vm_snapshot_metadata(VM, known[:1], call())
    cloud.driver.restore_vm_snapshot_metadata(VM, known, call())
    assert cloud.driver.vm_snapshot_metadata(VM, call()) == known
