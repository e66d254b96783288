"""The founding texts' and PR #977's lists for VM snapshots of KVM, one after the other, on real guests."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bollard.core.dataplane import copy, open_qcow2_source, open_sink
from bollard.core.spi import (
    Busy,
    Conflict,
    DataLoss,
    HasDependents,
    InUse,
    InvalidArgument,
    NotFound,
    TemplateSpec,
    VmState,
    VolumeSpec,
)
from bollard.core.vm_snapshots.guards import Act, check_act
from bollard.core.vm_snapshots.register import drop_register, restore_register
from bollard.core.vm_snapshots.to_volume import extract
from bollard.transfer_objects.ids import HostId, TemplateId, VmSnapshotId, VolumeId
from kvm_cloud import SIZE, KvmCloud
from kvm_lab.host import Host
from vm_cloud import VM, call

pytest_plugins = ["kvm_cloud_fixture"]
pytestmark = [pytest.mark.real(root=True), pytest.mark.slow]

OpenCloud = Callable[..., KvmCloud]


def write_all(cloud: KvmCloud, name: str) -> None:
    """The guest writes a file of this name on each disk, and remembers it."""
    for disk in cloud.disks():
        cloud.write(name, name, disk)
    cloud.remember(name)


def names(cloud: KvmCloud) -> list[str]:
    """The files, which must be the same on all disks."""
    found = [sorted(cloud.read(disk)) for disk in cloud.disks()]
    assert all(one == found[0] for one in found), found
    return found[0]


def listed(cloud: KvmCloud) -> list[tuple[str, str | None, bool]]:
    """What libvirt lists: name, parent, current."""
    metadata = cloud.driver.vm_snapshot_metadata(VM, call())
    return sorted((one.snapshot, one.parent, one.current) for one in metadata)


def test_seed1_1_create_revert_and_delete_on_a_running_vm(open_cloud: OpenCloud) -> None:
    """With memory: all disks and what only memory knew come back, and the VM runs at every moment."""
    cloud = open_cloud()
    write_all(cloud, "before")
    taken = cloud.take("s1", memory=True)
    write_all(cloud, "between")
    cloud.take("s2", memory=True)
    write_all(cloud, "after")
    assert (taken.strategy, cloud.state()) == ("hypervisor", VmState.RUNNING)
    cloud.revert("s1")
    assert (names(cloud), cloud.memory(), cloud.state()) == (["before"], "before", VmState.RUNNING)
    cloud.revert("s2")
    assert (names(cloud), cloud.memory()) == (["before", "between"], "between")
    cloud.delete("s1")
    assert listed(cloud) == [("s2", None, True)]
    write_all(cloud, "later")
    cloud.revert("s2")
    assert (names(cloud), cloud.memory()) == (["before", "between"], "between")
    cloud.delete("s2")
    assert cloud.state() is VmState.RUNNING
    assert cloud.files() == []


@pytest.mark.parametrize("memory", [True, False])
def test_seed1_2_a_volume_of_a_vm_snapshot(open_cloud: OpenCloud, *, memory: bool, tmp_path: Path) -> None:
    """Of an internal one and of one as files: a template, and a volume that has its files, only those."""
    cloud = open_cloud()
    write_all(cloud, "before")
    cloud.take("s1", memory=memory)
    write_all(cloud, "after")
    image, s1 = tmp_path / "template.qcow2", VmSnapshotId("s1")
    with cloud.manager.locks.task(VM), pytest.raises(Busy):
        extract(cloud.manager, s1, VolumeId("vol-1"), image, call())
    extract(cloud.manager, s1, VolumeId("vol-1"), image, call())
    with pytest.raises(Conflict):
        extract(cloud.manager, s1, VolumeId("vol-1"), image, call())
    with pytest.raises(NotFound):
        extract(cloud.manager, s1, VolumeId("vol-9"), tmp_path / "other", call())
    assert names(cloud) == ["after", "before"]
    cloud.delete("s1")
    with pytest.raises(InvalidArgument):
        extract(cloud.manager, s1, VolumeId("vol-1"), tmp_path / "other", call())
    assert sorted(tmp_path.iterdir()) == [image]

    volumes, template = cloud.pools["file"].volumes, TemplateId("t-1")
    seed = volumes.prepare_template(TemplateSpec(id=template, size=SIZE))
    with open_qcow2_source(image) as source, open_sink(volumes.locate(VolumeId(seed.id)), timeout=10) as sink:
        copy(source, sink)
    volumes.seal_template(template)
    volumes.from_template(template, VolumeSpec(id=VolumeId("vol-2"), size=SIZE))
    cloud.attach(VolumeId("vol-2"))
    cloud.wait()
    assert cloud.read(2) == {"before": "before"}
    assert [sorted(cloud.read(disk)) for disk in (0, 1)] == 2 * [["after", "before"]]


def test_seed1_3_metadata_leaves_before_stop_and_migration(
    open_cloud: OpenCloud, kvm_host: Host, second_host: Host
) -> None:
    """After a stop and start, and on the second host, the same tree is listed and can be reverted to."""
    cloud = open_cloud(hosts=(kvm_host, second_host), boots=True)
    for name in ("a", "b"):
        write_all(cloud, name)
        cloud.take(name, memory=True)
    cloud.revert("a")
    write_all(cloud, "c")
    cloud.take("c", memory=True)
    tree = [("a", None, False), ("b", "a", False), ("c", "a", True)]
    assert listed(cloud) == tree

    drop_register(cloud.machine(VM), call())
    assert listed(cloud) == []
    cloud.stop()
    cloud.start()
    restore_register(cloud.records, cloud.machine(VM), call())
    assert listed(cloud) == tree

    cloud.driver.migrate_vm(VM, HostId(second_host.name), call())
    cloud.guest.moved_to(second_host)
    cloud.guest.wait()
    assert listed(cloud) == tree
    assert names(cloud) == ["a", "c"]
    drop_register(cloud.machine(VM), call())  # a host that has forgotten is told again by the revert
    cloud.revert("b")
    assert (names(cloud), cloud.memory()) == (["a", "b"], "b")
    for name in ("a", "b", "c"):
        cloud.delete(name)
    assert cloud.files() == []


def test_seed1_4_deleting_on_a_stopped_vm(open_cloud: OpenCloud) -> None:
    """From all disks, listed by libvirt or not; one that is no longer in an image is deleted, too."""
    cloud = open_cloud()
    for name in ("a", "b", "c"):
        write_all(cloud, name)
        cloud.take(name, memory=True)
    cloud.stop()
    cloud.delete("a")
    assert [cloud.tags("vda"), cloud.tags("vdb")] == [["b", "c"], ["b", "c"]]
    drop_register(cloud.machine(VM), call())
    cloud.delete("b")
    assert [cloud.tags("vda"), cloud.tags("vdb")] == [["c"], ["c"]]
    command = ["qemu-img", "snapshot", "-d", "c", str(cloud.image("vdb"))]
    subprocess.run(command, check=True, timeout=60)
    with pytest.raises(DataLoss):
        extract(cloud.manager, VmSnapshotId("c"), VolumeId("vol-1"), cloud.directory / "x", call())
    cloud.delete("c")
    assert cloud.files() == []
    cloud.start()
    assert names(cloud) == ["a", "b", "c"]


@pytest.mark.parametrize("memory", [True, False])
def test_pr977_what_waits_until_the_snapshots_are_gone(open_cloud: OpenCloud, *, memory: bool) -> None:
    """Attach, detach, reinstall and the revert of a volume are refused while there is one, and done after."""
    cloud = open_cloud()
    write_all(cloud, "before")
    cloud.take("s1", memory=memory)
    acts = [Act.ATTACH, Act.DETACH, Act.REINSTALL, Act.REVERT_VOLUME, Act.MIGRATE_VOLUME, Act.RESIZE]
    for act in acts:
        with pytest.raises(HasDependents):
            check_act(cloud.records, VM, act)
    if memory:
        check_act(cloud.records, VM, Act.SNAPSHOT_VOLUME)
    else:
        with pytest.raises(InUse):
            check_act(cloud.records, VM, Act.SNAPSHOT_VOLUME)
    cloud.delete("s1")
    for act in acts:
        check_act(cloud.records, VM, act)
    cloud.add_volume(VolumeId("vol-2"))
    cloud.wait()
    cloud.write("before", "x", 2)
    if memory:
        cloud.take("s2", memory=True)
        write_all(cloud, "after")
        cloud.revert("s2")
        assert names(cloud) == ["before"]
        cloud.delete("s2")
    cloud.detach(VolumeId("vol-2"))
    assert names(cloud) == ["before"]
    assert cloud.files() == []


def test_pr977_a_disk_only_snapshot_after_a_migration(
    open_cloud: OpenCloud, kvm_host: Host, second_host: Host
) -> None:
    """Taken on one host: listed, reverted to and deleted on the other."""
    cloud = open_cloud(hosts=(kvm_host, second_host))
    write_all(cloud, "before")
    cloud.take("s1", quiesce=True)
    write_all(cloud, "after")
    cloud.driver.migrate_vm(VM, HostId(second_host.name), call())
    cloud.guest.moved_to(second_host)
    cloud.guest.wait()
    assert [one.id for one in cloud.manager.list(VM)] == ["s1"]
    assert names(cloud) == ["after", "before"]
    cloud.revert("s1")
    cloud.start()
    assert names(cloud) == ["before"]
    cloud.delete("s1")
    assert names(cloud) == ["before"]
    assert cloud.files() == []
