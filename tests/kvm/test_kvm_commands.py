"""CloudStack's orders on a real libvirtd and QEMU: a life of a volume of a running VM."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bollard.core.commands import reverting
from bollard.core.commands.images import image_below, own_image
from bollard.core.config import load_config
from bollard.core.invoke import Invoker
from bollard.core.site import Site
from bollard.core.spi import Backups, FileLocation, ShowsDisks
from bollard.transfer_objects.cloudstack import Payload, native_id
from bollard.transfer_objects.commands import (
    AttachCommand,
    CreateDiskOnlyVmSnapshotAnswer,
    CreateDiskOnlyVmSnapshotCommand,
    CreateObjectCommand,
    DeleteCommand,
    DeleteDiskOnlyVmSnapshotCommand,
    DettachCommand,
    ForgetObjectCmd,
    IntroduceObjectCmd,
    MergeDiskOnlyVmSnapshotCommand,
    MergeTree,
    RecreateCheckpointsCommand,
    RemoveBitmapCommand,
    RevertDiskOnlyVmSnapshotCommand,
    RevertSnapshotCommand,
)
from bollard.transfer_objects.enums import VMSnapshotType
from bollard.transfer_objects.ids import VmId, VolumeId
from bollard.transfer_objects.objects import SnapshotObjectTO, VMSnapshotTO
from command_rig import FILES, NFS, Orders, cut_id, disk, noise, snapshot, volume
from kvm_driving import KvmRig, call
from site_rig import FILES_UUID, NFS_UUID, toml_of

pytest_plugins = ["kvm_rig_fixture"]
pytestmark = pytest.mark.real(root=True)


@pytest.fixture
def orders(kvm_rig: KvmRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Orders]:
    """A dispatcher over a pool of files, a directory as store, and the lab's first host."""
    monkeypatch.setenv("BOLLARD_STATE", str(tmp_path / "state"))
    for name in ("pool", "secondary"):
        (kvm_rig.directory / name).mkdir()
    kvm = {
        "hosts": f"{kvm_rig.host.name}={kvm_rig.host.uri}",
        "state": kvm_rig.directory / "state",
        "scratch": kvm_rig.directory / "scratch",
    }
    config = tmp_path / "bollard.toml"
    config.write_text(
        toml_of(
            {
                "pools.files": {
                    "driver": "qcow2",
                    "uuid": FILES_UUID,
                    "options": {"path": kvm_rig.directory / "pool"},
                },
                "stores.nfs": {
                    "driver": "nfs",
                    "uuid": NFS_UUID,
                    "options": {"path": kvm_rig.directory / "secondary"},
                },
                "hypervisors.kvm": {"driver": "kvm", "options": kvm},
            }
        )
    )
    config.chmod(0o600)
    with Site.open(load_config(config)) as site:
        yield Orders(site)


def test_a_life_under_a_running_vm(orders: Orders, kvm_rig: KvmRig) -> None:
    """Attached, snapshotted to secondary, put on an overlay and merged, detached, reverted, deleted."""
    vm = kvm_rig.blank(name="i-2-12-VM")  # as CloudStack names them, which is no id of ours
    here = VmId(native_id(vm.name))
    of = orders.make(volume("vol-1", FILES))
    for _ in range(2):
        orders.do(IntroduceObjectCmd(data=of))
        orders.do(AttachCommand(disk=disk(of), vm_name=vm.name))
    assert "in_use" in orders.refused(ForgetObjectCmd(data=of))

    cut = snapshot(1, of, image_store=NFS, vm_name=vm.name)
    made = [orders.made(CreateObjectCommand(data=cut)) for _ in range(2)]
    assert made[0] == made[1]
    assert isinstance(made[0], SnapshotObjectTO)
    assert orders.archived("nfs", "vol-1", cut_id(1, of)) == noise("vol-1")
    backups = orders.site.hypervisor().require(Backups)
    assert backups.checkpoints(here, call()) == []

    own = own_image(orders.site.pool("files"), VolumeId("vol-1"), call())
    target = VMSnapshotTO(snapshot_name="before", snapshot_type=VMSnapshotType.DISK)
    create = CreateDiskOnlyVmSnapshotCommand(target=target, vm_name=vm.name, volumes=(of,))
    answer, repeated = orders.do(create), orders.do(create)
    assert isinstance(answer, CreateDiskOnlyVmSnapshotAnswer)
    assert answer == repeated
    path = str((answer.volumes or {})["vol-1"].path)
    assert own.path.with_name(path).is_file()
    living = snapshot(2, of, path=path, vm_name=vm.name)
    assert "in_use" in orders.refused(DeleteDiskOnlyVmSnapshotCommand(snapshots=(living,)))
    tree = MergeTree(parent=snapshot(2, of, path=own.path.name), child=snapshot(2, of, path=path))
    for _ in range(2):
        orders.do(MergeDiskOnlyVmSnapshotCommand(vm_name=vm.name, merge_trees=(tree,)))
    assert not own.path.with_name(path).exists()

    vm.stop()  # a guest that has no system lets go of nothing
    for _ in range(2):
        orders.do(DettachCommand(disk=disk(of), vm_name=vm.name))
    assert list((kvm_rig.directory / "state").rglob("*.json")) == []
    assert orders.read(of) == noise("vol-1")
    orders.write(of, noise("later"))
    orders.do(RevertSnapshotCommand(data=made[0]))
    assert orders.read(of) == noise("vol-1")
    for gone in (of, made[0]):
        orders.do(DeleteCommand(data=gone))
    assert orders.leftovers() == []


class Killed(BaseException):
    """The process is dead."""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_revert_that_is_killed_at_the_switch(
    orders: Orders, kvm_rig: KvmRig, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """The next task of the VM removes the file that it has not; its own, and the snapshot, stay."""
    vm = kvm_rig.blank()
    of = orders.make(volume("vol-1", FILES))
    orders.do(AttachCommand(disk=disk(of), vm_name=vm.name))
    own = own_image(orders.site.pool("files"), VolumeId("vol-1"), call())
    target = VMSnapshotTO(snapshot_name="first", snapshot_type=VMSnapshotType.DISK)
    orders.do(CreateDiskOnlyVmSnapshotCommand(target=target, vm_name=vm.name, volumes=(of,)))
    vm.stop()
    run = Invoker.run

    def dying(self: Invoker, operation: str, *args: Any, **more: Any) -> Any:
        if operation == "overlay.switch" and when == "before":
            raise Killed
        result = run(self, operation, *args, **more)
        if operation == "overlay.switch":
            raise Killed
        return result

    to = snapshot(1, of, path=own.path.name)
    with monkeypatch.context() as patched:
        patched.setattr(Invoker, "run", dying)
        patched.setattr(reverting, "_try", lambda *_: "")
        with pytest.raises(Killed):
            orders.ask(RevertDiskOnlyVmSnapshotCommand(vm_name=vm.name, snapshots=(to,)))
    assert orders.leftovers() == [f"journal {reverting.KIND}"]
    target = VMSnapshotTO(snapshot_name="second", snapshot_type=VMSnapshotType.DISK)
    orders.do(CreateDiskOnlyVmSnapshotCommand(target=target, vm_name=vm.name, volumes=(of,)))
    disks = orders.site.hypervisor().require(ShowsDisks).vm_disks(VmId(vm.name), call())
    top = next(one.location for one in disks if one.object_id == "vol-1")
    image, chain = (top if isinstance(top, FileLocation) else None), []
    while image is not None:
        chain.append(image.path)
        image = image_below(image)
    assert chain[-1] == own.path
    assert len(chain) == 3
    assert set(own.path.parent.glob("vol-1.*qcow2")) == set(chain)
    assert orders.leftovers() == []


def test_checkpoints_of_a_real_vm(orders: Orders, kvm_rig: KvmRig) -> None:
    """A checkpoint is registered again by its name, a lost one is told, and a bitmap is removed for good."""
    vm = kvm_rig.blank()
    of = orders.make(volume("vol-1", FILES))
    device = orders.do(AttachCommand(disk=disk(of), vm_name=vm.name)).details
    backups = orders.site.hypervisor().require(Backups)
    backups.begin_backup(VmId(vm.name), str(device), call(), checkpoint="mark-1")
    backups.end_backup(VmId(vm.name), str(device), call(), keep=True)
    for name, good in (("mark-1", True), ("mark-0", False)):
        known = volume("vol-1", FILES, checkpoint_paths=(f"checkpoints/2/41/{name}",))
        answer = orders.ask(RecreateCheckpointsCommand(vm_name=vm.name, volumes=(known,)))
        assert answer.result is good, answer.details
    one = snapshot(1, of, path="snapshots/2/41/mark-1", vm_name=vm.name)
    for _ in range(2):
        orders.do(RemoveBitmapCommand(snapshot=one, vm_running=True))
    assert backups.checkpoints(VmId(vm.name), call()) == []
    vm.stop()
    answer = orders.do(DettachCommand(disk=disk(of), vm_name=vm.name))
    assert json.loads(Payload.of(answer).wire())
