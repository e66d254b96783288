"""VM snapshots, freezing, disk-only snapshots and checkpoints, over a cluster whose guests write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from bollard.core.spi import (
    Backups,
    Call,
    FileLocation,
    GuestState,
    KeepsSnapshotMetadata,
    ShowsDisks,
    VmState,
)
from bollard.transfer_objects.commands import (
    AttachCommand,
    CreateDiskOnlyVmSnapshotCommand,
    CreateObjectCommand,
    CreateVMSnapshotCommand,
    DeleteDiskOnlyVmSnapshotCommand,
    DeleteVMSnapshotCommand,
    DettachCommand,
    FreezeOption,
    FreezeThawVMCommand,
    MergeDiskOnlyVmSnapshotCommand,
    MergeTree,
    NewVolumePath,
    PowerState,
    RecreateCheckpointsCommand,
    RemoveBitmapCommand,
    RestoreVMSnapshotCommand,
    RevertDiskOnlyVmSnapshotCommand,
    RevertToVMSnapshotCommand,
)
from bollard.transfer_objects.enums import VMSnapshotType
from bollard.transfer_objects.ids import VmId
from bollard.transfer_objects.objects import VMSnapshotTO, VolumeObjectTO
from command_rig import NFS, RAW, SIZE, Orders, cut_id, disk, snapshot, volume

RUNS, OFF = "vm-1", "vm-2"


@pytest.fixture(params=[RUNS, OFF])
def vm(request) -> str:
    """A VM that runs, and one that is off."""
    return request.param


@pytest.fixture
def attached(orders, name, vm) -> Iterator[VolumeObjectTO]:
    """A file volume that the VM has."""
    of = orders.make(volume(name("vol"), RAW))
    orders.do(AttachCommand(disk=disk(of), vm_name=vm))
    yield of
    orders.do(DettachCommand(disk=disk(of), vm_name=vm))


def _target(wanted: str, *, memory: bool = False, **more) -> VMSnapshotTO:
    kind = VMSnapshotType.DISK_AND_MEMORY if memory else VMSnapshotType.DISK
    return VMSnapshotTO(**{"snapshot_name": wanted, "snapshot_type": kind} | more)


def _registered(orders: Orders, vm: str) -> dict[str, bool]:
    """The VM's snapshots, and whether each is the current one."""
    hypervisor = orders.site.hypervisor()
    found = hypervisor.require(KeepsSnapshotMetadata).vm_snapshot_metadata(VmId(vm), Call.within(30))
    return {str(one.snapshot): one.current for one in found}


def _image(orders: Orders, vm: str, of: VolumeObjectTO) -> FileLocation:
    """The file that the VM writes a volume to."""
    for one in orders.site.hypervisor().require(ShowsDisks).vm_disks(VmId(vm), Call.within(30)):
        if one.object_id == of.uuid:
            assert isinstance(one.location, FileLocation)
            return one.location
    raise AssertionError(f"{vm} has no {of.uuid}")


def test_life_of_a_vm_snapshot(orders, name, attached, vm):
    """Taken, taken again, reverted to, deleted, deleted again; answers tell the power state."""
    memory = vm == RUNS  # KVM takes none of a running VM without it; see the disk-only ones
    wanted = name("before")
    target = {"target": _target(wanted, memory=memory), "vm_name": vm, "volumes": (attached,)}
    for _ in range(2):
        taken = orders.do(CreateVMSnapshotCommand(**target))
    assert taken.vm_snapshot.snapshot_name == wanted
    assert taken.volumes[0].uuid == attached.uuid
    assert _registered(orders, vm)[wanted]
    state = PowerState.ON if vm == RUNS else PowerState.OFF
    assert orders.do(RevertToVMSnapshotCommand(**target)).vm_state is state
    for _ in range(2):
        assert orders.do(DeleteVMSnapshotCommand(**target)).vm_state is state
    assert wanted not in _registered(orders, vm)


@pytest.mark.parametrize("vm", [OFF])
def test_snapshots_are_registered_again(orders, name, attached, vm):
    """After the hypervisor forgot them a VM's snapshots are registered again, parents first, one current."""
    names = [name("vs") for _ in range(2)]
    targets = [_target(wanted, id=number, current=number == 2) for number, wanted in enumerate(names, 1)]
    for target in targets:
        orders.do(CreateVMSnapshotCommand(target=target, vm_name=vm))
    hypervisor = orders.site.hypervisor()
    hypervisor.require(KeepsSnapshotMetadata).drop_vm_snapshot_metadata(VmId(vm), Call.within(30))
    assert _registered(orders, vm) == {}
    again = RestoreVMSnapshotCommand(
        vm_name=vm, snapshots=tuple(reversed(targets)), snapshot_and_parents={"2": targets[0]}
    )
    for _ in range(2):
        orders.do(again)
    assert _registered(orders, vm) == {names[0]: False, names[1]: True}
    for target in reversed(targets):
        orders.do(DeleteVMSnapshotCommand(target=target, vm_name=vm))


def test_a_cycle_of_parents_is_refused(orders):
    """Snapshots that are each other's parents cannot be registered."""
    first, second = _target("a", id=1), _target("b", id=2)
    cycle = {"1": second, "2": first}
    told = orders.refused(
        RestoreVMSnapshotCommand(vm_name=OFF, snapshots=(first, second), snapshot_and_parents=cycle)
    )
    assert told.startswith("invalid_argument (not_applied)")


def test_memory_is_not_quiesced(orders):
    """A snapshot with memory of a frozen guest would come back frozen: it is refused."""
    target = _target("frozen", memory=True, quiesce_vm=True)
    assert "frozen" in orders.refused(CreateVMSnapshotCommand(target=target, vm_name=RUNS))
    assert _guest(orders) is GuestState.THAWED


def _guest(orders: Orders) -> GuestState:
    return orders.site.hypervisor().driver.guest_state(VmId(RUNS), Call.within(30))


def test_freeze_status_thaw(orders):
    """The answers are the guest's own words; each may be repeated; what is told is true."""
    for option, word in (
        (FreezeOption.STATUS, "thawed"),
        (FreezeOption.FREEZE, "frozen"),
        (FreezeOption.FREEZE, "frozen"),
        (FreezeOption.STATUS, "frozen"),
        (FreezeOption.THAW, "thawed"),
        (FreezeOption.THAW, "thawed"),
    ):
        answer = orders.do(FreezeThawVMCommand(vm_name=RUNS, option=option, wait=60))
        assert answer.details == word
        assert str(_guest(orders)) == word


def test_what_cannot_be_frozen(orders):
    """A guest without an agent, a VM that is not there, no option: refused."""
    for command in (
        FreezeThawVMCommand(vm_name=OFF, option=FreezeOption.FREEZE),
        FreezeThawVMCommand(vm_name="i-9-9-VM", option=FreezeOption.STATUS),
        FreezeThawVMCommand(vm_name=RUNS),
        FreezeThawVMCommand(option=FreezeOption.THAW),
    ):
        orders.refused(command)
    assert _guest(orders) is GuestState.THAWED


@pytest.mark.parametrize("quiesce", [False, True])
def test_a_disk_only_snapshot_and_its_merge(orders, name, attached, vm, quiesce):
    """The guest goes on above its old file; merged, it is on the old file again, and no other is left."""
    base = _image(orders, vm, attached)
    create = CreateDiskOnlyVmSnapshotCommand(
        target=_target(name("vs"), quiesce_vm=quiesce),
        vm_name=vm,
        volumes_and_new_paths=(NewVolumePath(volume=attached, path="one.raw"),),
    )
    for _ in range(2):
        made = orders.do(create).volumes[str(attached.uuid)]
    overlay = base.path.with_name(made.path)
    assert _image(orders, vm, attached).path == overlay
    assert overlay.name.startswith(f"{attached.uuid}.")
    assert made.size > 0
    merge = MergeDiskOnlyVmSnapshotCommand(
        vm_name=vm,
        merge_trees=(
            MergeTree(
                parent=snapshot(1, attached, path=base.path.name),
                child=volume(attached.uuid, RAW, path=made.path),
            ),
        ),
    )
    for _ in range(2):
        orders.do(merge)
    assert _image(orders, vm, attached).path == base.path
    assert not overlay.exists()
    if vm == RUNS:
        assert _guest(orders) is GuestState.THAWED


@pytest.mark.parametrize("vm", [OFF])
def test_a_disk_only_revert(orders, name, attached, vm):
    """A stopped VM is put back as often as one likes; each time it is on a new file, and the old one goes."""
    base = _image(orders, vm, attached)
    path = NewVolumePath(volume=attached, path="b-new.raw")
    create = CreateDiskOnlyVmSnapshotCommand(
        target=_target(name("vs")), vm_name=vm, volumes_and_new_paths=(path,)
    )
    made = orders.do(create).volumes[str(attached.uuid)]
    assert made.path == f"{attached.uuid}.b-new.raw"
    revert = RevertDiskOnlyVmSnapshotCommand(
        vm_name=vm, snapshots=(snapshot(1, attached, path=base.path.name),)
    )
    seen = [made.path]
    for _ in range(2):
        [now] = orders.do(revert).volumes
        assert _image(orders, vm, attached).path.name == now.path
        assert not base.path.with_name(seen[-1]).exists()
        seen.append(now.path)
    assert len(set(seen)) == 3
    stands_on = DeleteDiskOnlyVmSnapshotCommand(snapshots=(snapshot(1, attached, path=base.path.name),))
    assert "has_dependents" in orders.refused(stands_on)
    gone = DeleteDiskOnlyVmSnapshotCommand(snapshots=(snapshot(1, attached, path="gone"),))
    orders.do(gone)
    tree = MergeTree(
        parent=snapshot(1, attached, path=base.path.name), child=snapshot(1, attached, path=seen[-1])
    )
    orders.do(MergeDiskOnlyVmSnapshotCommand(vm_name=vm, merge_trees=(tree,)))
    assert _image(orders, vm, attached).path == base.path


@pytest.mark.parametrize("vm", [RUNS])
def test_what_no_path_may_reach(orders, attached, vm):
    """A path is a name beside the volume's own file, under the volume's own mark: never another's file."""
    base = _image(orders, vm, attached).path
    stranger = base.with_name("stranger.qcow2")
    stranger.write_bytes(b"precious")
    for path in ("stranger.qcow2", str(stranger)):
        orders.do(DeleteDiskOnlyVmSnapshotCommand(snapshots=(snapshot(1, attached, path=path),)))
    assert stranger.read_bytes() == b"precious"
    stranger.unlink()
    assert base.exists()


def test_uefi_is_refused(orders):
    """What would leave the variables of the firmware out is refused before anything is done."""
    for command in (
        CreateDiskOnlyVmSnapshotCommand(target=_target("x"), vm_name=RUNS, uefi_enabled=True),
        RevertDiskOnlyVmSnapshotCommand(vm_name=RUNS, uefi_enabled=True),
        DeleteDiskOnlyVmSnapshotCommand(nvram_snapshot_path="/n.snap"),
    ):
        assert orders.refused(command).startswith("unsupported (not_applied)")


@pytest.mark.parametrize("vm", [RUNS])
@pytest.mark.parametrize("quiesce", [False, True])
def test_a_snapshot_of_a_running_vm_goes_to_secondary(orders, attached, vm, quiesce):
    """The hypervisor serves the instant while the guest writes on; nothing of it is left."""
    wanted = snapshot(1, attached, image_store=NFS, vm_name=vm, quiesce_vm=quiesce)
    made = [orders.do(CreateObjectCommand(data=wanted)).data for _ in range(2)]
    assert made[0] == made[1]
    assert len(orders.archived("nfs", attached.uuid, cut_id(1, attached))) == SIZE
    backups = orders.site.hypervisor().require(Backups)
    assert backups.checkpoints(VmId(vm), Call.within(30)) == []
    assert _guest(orders) is GuestState.THAWED
    assert orders.site.hypervisor().vm_state(VmId(vm), Call.within(30)) is VmState.RUNNING


@pytest.mark.parametrize("vm", [RUNS])
def test_checkpoints(orders, attached, vm):
    """Lost ones are named in a failure; a bitmap is removed from a VM's disk, and is gone for good."""
    hypervisor = orders.site.hypervisor()
    backups = hypervisor.require(Backups)
    [device] = [
        d.device for d in hypervisor.driver.vm_disks(VmId(vm), _call()) if d.object_id == attached.uuid
    ]
    backups.begin_backup(VmId(vm), device, _call(), checkpoint="mark-1")
    backups.end_backup(VmId(vm), device, _call(), keep=True)
    known = volume(attached.uuid, RAW, checkpoint_paths=("checkpoints/2/41/mark-1",))
    orders.do(RecreateCheckpointsCommand(vm_name=vm, volumes=(known,)))
    lost = volume(attached.uuid, RAW, checkpoint_paths=("checkpoints/2/41/mark-0",))
    assert "mark-0" in orders.refused(RecreateCheckpointsCommand(vm_name=vm, volumes=(lost,)))
    for _ in range(2):
        path = "snapshots/2/41/mark-1"
        orders.do(RemoveBitmapCommand(snapshot=snapshot(1, attached, path=path, vm_name=vm), vm_running=True))
    assert backups.checkpoints(VmId(vm), _call()) == []


def _call() -> Call:
    return Call.within(30)


def _merged_back(orders: Orders, vm: str, of: VolumeObjectTO, base: FileLocation, overlay: str) -> None:
    tree = MergeTree(parent=snapshot(1, of, path=base.path.name), child=snapshot(1, of, path=overlay))
    orders.do(MergeDiskOnlyVmSnapshotCommand(vm_name=vm, merge_trees=(tree,)))


@pytest.mark.parametrize("says", ["vm of the snapshot", "vm of the volume", "path of the volume"])
def test_the_file_that_is_written_to_is_no_snapshot(orders, name, attached, vm, says):
    """Deleting the overlay that a VM or a volume goes on in is refused: its bytes are nowhere else."""
    base = _image(orders, vm, attached)
    create = CreateDiskOnlyVmSnapshotCommand(
        target=_target(name("vs")),
        vm_name=vm,
        volumes_and_new_paths=(NewVolumePath(volume=attached, path="l.raw"),),
    )
    made = orders.do(create).volumes[str(attached.uuid)]
    of = {
        "vm of the snapshot": attached,
        "vm of the volume": replace(attached, vm_name=vm),
        "path of the volume": replace(attached, path=made.path),
    }[says]
    more = {"vm_name": vm} if says == "vm of the snapshot" else {}
    living = snapshot(1, of, path=made.path, **more)
    assert orders.refused(DeleteDiskOnlyVmSnapshotCommand(snapshots=(living,))).startswith(
        "in_use (not_applied)"
    )
    assert base.path.with_name(made.path).exists()
    _merged_back(orders, vm, attached, base, made.path)
