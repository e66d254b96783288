"""QEMU, libvirtd or we are killed in the midst: after a restart and a sync all is decided and whole."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest

from bollard.core.spi import StorageError, VmState
from bollard.core.vm_snapshots.states import ACTIVE, State
from kvm_cloud import KvmCloud
from kvm_cloud_kill import die_doing, do, killing_at
from kvm_lab import host as process
from kvm_lab.polling import until
from vm_cloud import VM, call

pytest_plugins = ["kvm_cloud_fixture"]
pytestmark = [pytest.mark.real(root=True), pytest.mark.slow]

# By task: the act of the driver, and how many seconds after its beginning.
WITH_MEMORY = {
    "create": ("taking snapshot", 0.1),
    "revert": ("reverting to", 0.1),
    "delete": ("blockdev-snapshot-delete-internal-sync", 0.0),
}
AS_FILES = {
    "create": ("adding overlays", 0.0),
    "revert": ("changing its", 0.0),
    "delete": ("merging", 0.01),
}


def write_all(cloud: KvmCloud, name: str) -> None:
    """The guest writes a file of this name on each disk."""
    for disk in cloud.disks():
        cloud.write(name, name, disk)


def names(cloud: KvmCloud) -> set[str]:
    """The files, which must be the same on all disks, of a guest that is thawed."""
    if cloud.state() is VmState.STOPPED:
        cloud.start()
    assert not cloud.frozen()
    found = [set(cloud.read(disk)) for disk in cloud.disks()]
    assert all(one == found[0] for one in found), found
    return found[0]


def killed(
    cloud: KvmCloud, victim: str, what: str, name: str, act: str, *, memory: bool, delay: float
) -> None:
    """Do it, with a death in the midst, and bring back what died."""
    host = cloud.hosts[0]
    if victim == "ourselves":
        die_doing(cloud, what, name, act, memory=memory, delay=delay)
    else:
        kill = host.kill_libvirtd if victim == "libvirtd" else lambda: kill_qemu(cloud)
        with killing_at(act, kill, delay), suppress(StorageError):
            do(cloud, what, name, memory=memory)
        host.start_libvirtd()
        end_forgotten(cloud)
    cloud.open_manager()


def end_forgotten(cloud: KvmCloud) -> None:
    """End a QEMU that libvirt has forgotten, as an operator must.

    libvirt 9.0 cannot read its own notes if it was killed just when it struck out the mirror of a merge.
    """
    pid = cloud.hosts[0].qemu_pid(VM)
    if pid and cloud.state() is VmState.STOPPED:
        process.kill(pid)


def kill_qemu(cloud: KvmCloud) -> None:
    """Kill the VM's QEMU; in the midst of a revert there is none for a moment."""
    host = cloud.hosts[0]
    process.kill(until(lambda: host.qemu_pid(VM), 30, "a QEMU"))


def settled(cloud: KvmCloud) -> None:
    """Sync; the VM runs or is off then, nobody has to delete anything first."""
    assert [one.error for one in cloud.sync.all(call())] in ([], [""])
    assert cloud.state() is not VmState.PAUSED
    for one in cloud.records.of_vm(VM):
        if one.state is State.ERROR:  # its deletion failed, or its creation was undone
            cloud.delete(one.id)
    assert cloud.state() is not VmState.PAUSED
    assert not [one for one in cloud.records.of_vm(VM) if one.state in ACTIVE]
    assert cloud.records.tree(VM).problems() == []
    if cloud.state() is VmState.RUNNING:
        cloud.wait()


@pytest.mark.parametrize(
    ("victim", "memory"),
    [("qemu", True), ("libvirtd", True), ("libvirtd", False), ("ourselves", True), ("ourselves", False)],
)
def test_a_death_in_the_midst(open_cloud: Callable[..., KvmCloud], victim: str, *, memory: bool) -> None:
    """The VM runs or is off, thawed; its disks are the snapshot's or as they were; nothing is left."""
    cloud = open_cloud()
    for what, (act, delay) in (WITH_MEMORY if memory else AS_FILES).items():
        before = names(cloud) | {f"before-{what}"}
        write_all(cloud, f"before-{what}")
        if what != "create":
            cloud.take(what, memory=memory)
            write_all(cloud, f"after-{what}")
        killed(cloud, victim, what, what, act, memory=memory, delay=delay)
        settled(cloud)
        there = names(cloud)
        assert there in (before, before | {f"after-{what}"})
        write_all(cloud, "goes-on")
        for one in cloud.manager.list(VM):
            cloud.delete(one.id)
        assert names(cloud) == there | {"goes-on"}
        assert cloud.files() == []
