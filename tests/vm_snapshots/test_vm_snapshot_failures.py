"""Backends that refuse half-way: creations are undone, reverts put back, deletions go on later."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bollard.core.spi import (
    Conflict,
    Internal,
    InUse,
    Outcome,
    OutOfCapacity,
    StorageError,
    Unavailable,
    Unsupported,
    VmState,
)
from bollard.core.vm_snapshots.states import Event, State
from bollard.transfer_objects.ids import VmSnapshotId
from qcow2_rig import qemu_io
from vm_cloud import VM, SimulatedCloud, call

S1 = VmSnapshotId("s1")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Iterator[SimulatedCloud]:
    """A cloud with a VM on two arrays and in files."""
    disks = ("array", "array2", "file")
    with SimulatedCloud(tmp_path_factory.mktemp("cloud"), disks) as opened:
        yield opened


@pytest.fixture
def cloud(mixed) -> Iterator[SimulatedCloud]:
    """The same, with a running VM and, afterwards, no snapshots."""
    mixed.start()
    yield mixed
    for one in mixed.manager.list(VM):
        mixed.delete(one.id)
    assert mixed.files() == []


def write_all(cloud: SimulatedCloud, name: str) -> None:
    """The guest writes a file on each disk."""
    for disk in range(len(cloud.volumes)):
        cloud.write(name, name, disk)


def have(cloud: SimulatedCloud, name: str) -> list[bool]:
    """Which disks have the file."""
    if cloud.state() is VmState.STOPPED:
        cloud.start()
    return [name in cloud.read(disk) for disk in range(len(cloud.volumes))]


def broken(driver, method: str, error: StorageError, monkeypatch, *, after: bool = False):
    """Let a driver's method fail, before or after it has done its work."""
    act = getattr(driver, method)

    def fail(*args, **kwargs):
        if after:
            act(*args, **kwargs)
        raise error

    monkeypatch.setattr(driver, method, fail)


def test_a_revert_that_fails_at_the_last_storage_is_put_back(cloud, monkeypatch):
    """All disks are as they were, the snapshot is Ready, and no undo point is left."""
    write_all(cloud, "a1")
    cloud.take("a1")
    write_all(cloud, "a2")
    with monkeypatch.context() as patch:
        broken(cloud.driver, "switch_images", Conflict("no"), patch)
        with pytest.raises(Conflict) as caught:
            cloud.revert("a1")

    assert caught.value.outcome == "not_applied"
    found = cloud.records.get(VmSnapshotId("a1"))
    assert (found.state, found.error) == (State.READY, "no")
    assert have(cloud, "a2") == [True] * 3
    assert len([one for one in cloud.files() if one.startswith("array")]) == 2
    cloud.revert("a1")
    assert have(cloud, "a2") == [False] * 3


@pytest.mark.parametrize("after", [False, True])
def test_a_revert_that_fails_at_the_second_array_is_put_back(cloud, monkeypatch, after):
    """Also when that array had done it: the first one's volumes come back, too."""
    name = f"b{after}".lower()
    write_all(cloud, name)
    cloud.take(name)
    write_all(cloud, f"{name}-later")
    driver = cloud.pools["array2"].driver
    act, seen = driver.revert_vm_snapshot, list[int]()

    def fail_once(*args):
        if not seen:
            seen.append(1)
            if after:
                act(*args)
            raise Internal("the array's answer makes no sense")
        return act(*args)

    monkeypatch.setattr(driver, "revert_vm_snapshot", fail_once)
    with pytest.raises(Internal):
        cloud.revert(name)

    assert cloud.records.get(VmSnapshotId(name)).state is State.READY
    assert have(cloud, f"{name}-later") == [True] * 3


def test_a_revert_that_cannot_be_put_back_is_finished_by_the_sync(cloud, monkeypatch):
    """It stays Reverting, the VM must not start, and the sync brings all disks to the snapshot."""
    write_all(cloud, "c1")
    cloud.take("c1")
    write_all(cloud, "c2")
    with monkeypatch.context() as patch:
        broken(cloud.pools["array2"].driver, "revert_vm_snapshot", Internal("broken"), patch)
        with pytest.raises(Internal):
            cloud.revert("c1")
        assert cloud.records.get(VmSnapshotId("c1")).state is State.REVERTING
        assert [one.error for one in cloud.sync.all(call())] == ["broken"]
    cloud.start()
    assert "stop it" in cloud.sync.all(call())[0].error
    cloud.stop()
    assert [(one.before, one.after) for one in cloud.sync.all(call())] == [(State.REVERTING, State.READY)]

    assert have(cloud, "c2") == [False] * 3


def test_a_volume_that_is_still_granted_is_told_before_anything_is_done(cloud):
    """The orchestrator's stop must take the host's access away."""
    write_all(cloud, "d1")
    cloud.take("d1")
    cloud.stop()
    volume = cloud.volumes[0]
    cloud._introduce(volume.volume, volume.pool)
    with pytest.raises(InUse, match="granted to a host"):
        cloud.revert("d1")
    assert cloud.records.get(VmSnapshotId("d1")).state is State.READY
    cloud.stop()


def test_a_deletion_that_fails_goes_on_when_it_is_asked_again(cloud, monkeypatch):
    """It is Error, keeps what it was about to do, and blocks other tasks until it is through."""
    write_all(cloud, "e1")
    cloud.take("e1")
    with monkeypatch.context() as patch:
        broken(cloud.driver, "merge_image", Internal("no", outcome=Outcome.APPLIED), patch, after=True)
        with pytest.raises(Internal):
            cloud.delete("e1")
    assert cloud.records.get(VmSnapshotId("e1")).state is State.ERROR
    with pytest.raises(Exception, match="half deleted"):
        cloud.take("e2")
    cloud.delete("e1")

    assert cloud.files() == []
    assert have(cloud, "e1") == [True] * 3


def test_a_deletion_of_which_nobody_knows_how_far_it_came_is_left_to_the_sync(cloud, monkeypatch):
    """It stays Expunging, the VM may stand still in the midst of it; the sync brings it to its end."""
    write_all(cloud, "e3")
    cloud.take("e3")
    with monkeypatch.context() as patch:
        broken(cloud.driver, "merge_image", Internal("libvirtd died", outcome=Outcome.UNKNOWN), patch)
        with pytest.raises(Internal):
            cloud.delete("e3")
    assert cloud.records.get(VmSnapshotId("e3")).state is State.EXPUNGING
    assert [one.after for one in cloud.sync.all(call())] == [State.REMOVED]

    assert cloud.files() == []
    assert have(cloud, "e3") == [True] * 3


def test_a_creation_that_cannot_be_undone_is_left_to_the_sync(cloud, monkeypatch):
    """It stays Creating, and the sync ends it in Error with nothing left."""
    with monkeypatch.context() as patch:
        broken(cloud.driver, "add_overlays", OutOfCapacity("full"), patch)
        broken(cloud.pools["array"].driver, "delete_vm_snapshot", Internal("broken"), patch)
        with pytest.raises(OutOfCapacity):
            cloud.take("f1")
    assert cloud.records.get(VmSnapshotId("f1")).state is State.CREATING
    assert [one.after for one in cloud.sync.all(call())] == [State.ERROR]
    assert cloud.files() == []


def test_an_agent_that_does_not_answer(tmp_path):
    """Nothing is cut without a freeze that was asked for, or that several storages need."""
    with SimulatedCloud(tmp_path, ("file",)) as cloud:
        cloud.http.delete(f"/vms/{VM}/disks/vol-0").raise_for_status()
        cloud.http.delete(f"/vms/{VM}").raise_for_status()
        body = {"host": "h1", "agent": False}
        cloud.http.put(f"/vms/{VM}", json=body).raise_for_status()
        disk = {"object": {"kind": "volume", "id": "vol-0"}}
        cloud.http.put(f"/vms/{VM}/disks/vol-0", json=disk).raise_for_status()
        cloud.start()
        with pytest.raises(Unavailable, match="agent"):
            cloud.take("s1", quiesce=True)
        assert cloud.records.get(S1).state is State.ERROR
        cloud.delete("s1")
        cloud.take("s2")
        assert not cloud.records.get(VmSnapshotId("s2")).quiesced


def test_a_snapshot_that_the_hypervisor_lost(tmp_path):
    """A revert to it that was interrupted ends in Error, not in a promise."""
    with SimulatedCloud(tmp_path, personality="VMware") as cloud:
        cloud.take("s1")
        cloud.records.step(S1, Event.REVERT_REQUESTED)
        cloud.driver.delete_vm_snapshot(VM, S1, call())
        (ended,) = cloud.sync.all(call())

        assert (ended.before, ended.after, ended.error) == (State.REVERTING, State.ERROR, "")
        cloud.delete("s1")
        assert cloud.records.of_vm(VM) == []


def test_a_busy_vm_keeps_no_other_from_its_sync(tmp_path):
    """The sync of all leaves it out, and ends it the next time."""
    with SimulatedCloud(tmp_path) as cloud:
        cloud.take("s1")
        cloud.records.step(S1, Event.EXPUNGE_REQUESTED, work={})
        with cloud.manager.locks.task(VM):
            assert cloud.sync.all(call()) == []
        assert [one.after for one in cloud.sync.all(call())] == [State.REMOVED]


def test_no_strategy_for_a_mixed_vm_that_cannot_be_frozen(tmp_path):
    """XenServer freezes no guests: two storages of a running VM would show two instants."""
    with SimulatedCloud(tmp_path, ("array", "array2"), personality="XenServer") as cloud:
        cloud.start()
        with pytest.raises(Unsupported, match="freezes no guests"):
            cloud.take("s1")
        cloud.stop()
        cloud.take("s1")
        cloud.revert("s1")
        cloud.delete("s1")
        assert cloud.files() == []


def test_real_qcow2_files_beside_an_array(tmp_path):
    """Where the hypervisor has no overlays, a stopped VM's qcow2 files are snapshotted one by one."""
    with SimulatedCloud(tmp_path, ("array", "file"), personality="VMware", form="qcow2") as cloud:
        cloud.stop()
        image = tmp_path / "pool" / "volumes" / "vol-1.qcow2"
        qemu_io(image, "qcow2", "write -P 0x11 0 64k")
        taken = cloud.take("s1")
        assert (taken.strategy, taken.frozen_seconds) == ("driver", 0.0)
        assert {member.kind for member in taken.members} == {"pool", "volume"}
        qemu_io(image, "qcow2", "write -P 0x22 0 64k")
        cloud.revert("s1")
        qemu_io(image, "qcow2", "read -P 0x11 0 64k")
        cloud.start()
        with pytest.raises(Unsupported, match="neither cut a volume in an instant"):
            cloud.take("s2")
        cloud.delete("s1")
        assert cloud.files() == []
