"""Create, delete, revert, introduce, forget, attach, dettach, LUNs: what is true then, what is refused."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace

import pytest

from bollard.core.commands.images import own_image
from bollard.core.commands.names import archived, snapshot_id, vm_id, volume_id
from bollard.core.config import load_config
from bollard.core.site import Site
from bollard.core.spi import Call, InvalidArgument
from bollard.transfer_objects.cloudstack import Payload
from bollard.transfer_objects.cloudstack.ids import native_id
from bollard.transfer_objects.commands import (
    AttachCommand,
    ConvertSnapshotCommand,
    CopyCommand,
    CreateObjectCommand,
    DeleteCommand,
    DeleteDiskOnlyVmSnapshotCommand,
    DetachCommand,
    DettachCommand,
    ForgetObjectCmd,
    IntroduceObjectCmd,
    RemoveBitmapCommand,
    ResignatureCommand,
    RevertSnapshotCommand,
    SnapshotAndCopyCommand,
    UnsupportedAnswer,
    VMSnapshotCommand,
)
from bollard.transfer_objects.details import Details
from bollard.transfer_objects.enums import ImageFormat, VolumeType
from bollard.transfer_objects.objects import DiskTO, SnapshotObjectTO
from bollard.transfer_objects.secret import Secret
from command_rig import (
    ARRAY,
    FILES,
    MIB,
    NFS,
    POOLS,
    SIZE,
    Orders,
    cut_id,
    disk,
    noise,
    snapshot,
    template,
    volume,
)
from site_rig import toml_of

pools = pytest.mark.parametrize("pool", POOLS)
SECRET = "correct-horse-battery"


@pools
def test_create_and_delete(orders, name, pool):
    """A volume is made once, with its size; another size is a conflict; deleting it twice is fine."""
    wanted = volume(name("vol"), POOLS[pool])
    made = orders.do(CreateObjectCommand(data=wanted)).data
    assert orders.do(CreateObjectCommand(data=wanted)).data == made
    assert (made.size, made.path) == (SIZE, wanted.uuid)
    assert made.format is (ImageFormat.RAW if pool == "array" else ImageFormat.QCOW2)
    larger = volume(wanted.uuid, POOLS[pool], size=2 * SIZE)
    assert orders.refused(CreateObjectCommand(data=larger)).startswith("conflict (not_applied)")
    for _ in range(2):
        orders.do(DeleteCommand(data=wanted))
    assert not orders.exists(wanted)


@pools
def test_snapshots_come_and_go(orders, name, pool):
    """Two snapshots of one name are two; each is deleted by itself, on the pool and in the archive."""
    source = orders.make(volume(name("vol"), POOLS[pool]))
    first, second = (orders.do(CreateObjectCommand(data=snapshot(n, source))).data for n in (1, 2))
    assert orders.snapshots(source) == {cut_id(1, source), cut_id(2, source)}
    orders.do(CopyCommand(source=first, destination=snapshot(1, source, NFS)))
    for gone in (first, second, snapshot(1, source, NFS)):
        for _ in range(2):
            orders.do(DeleteCommand(data=gone))
    assert orders.snapshots(source) == set()
    assert list(orders.site.archive("nfs").list(_call(), volume=source.uuid)) == []


@pools
def test_revert_prefers_the_pool(orders, name, pool):
    """A volume goes back to the snapshot on its pool; when that is gone, to the archived one."""
    source = orders.make(volume(name("vol"), POOLS[pool]))
    cut = orders.do(CreateObjectCommand(data=snapshot(1, source))).data
    backup = orders.do(
        CopyCommand(
            source=cut,
            destination=snapshot(1, source, NFS),
            source_options=Details({"snapshot.backup.to.secondary": "false"}),
        )
    ).new_data
    for gone in (False, True):
        if gone:
            orders.do(DeleteCommand(data=cut))
        orders.write(source, noise("later"))
        orders.do(RevertSnapshotCommand(data=backup, data_on_primary_storage=cut))
        assert orders.read(source) == noise(source.uuid)
    orders.do(DeleteCommand(data=backup))
    orders.write(source, noise("later"))
    assert "not_found" in orders.refused(RevertSnapshotCommand(data=backup, data_on_primary_storage=cut))
    assert orders.read(source) == noise("later")
    assert orders.leftovers() == []


@pools
def test_introduce_and_forget(orders, name, pool):
    """The host knows the volume, and knows it no more; its data stay, and no grant is left."""
    source = orders.make(volume(name("vol"), POOLS[pool]))
    paths = {orders.do(IntroduceObjectCmd(data=source)).data.path for _ in range(2)}
    assert len(paths) == 1
    for _ in range(2):
        orders.do(ForgetObjectCmd(data=source))
    assert orders.leftovers() == []
    assert orders.read(source) == noise(source.uuid)


@pools
def test_introduce_verifies(orders, name, pool):
    """Another size than the pool's, or a volume that is not there, is refused, and nothing is left."""
    source = orders.make(volume(name("vol"), POOLS[pool]))
    wrong = volume(source.uuid, POOLS[pool], size=SIZE + MIB)
    assert orders.refused(IntroduceObjectCmd(data=wrong)).startswith("conflict (not_applied)")
    assert "not_found" in orders.refused(IntroduceObjectCmd(data=volume(name("none"), POOLS[pool])))
    assert orders.leftovers() == []


@pools
def test_attach_and_dettach(orders, name, pool):
    """A volume is a disk of the VM, its device is told, deleting it is refused; then nothing is left."""
    source = orders.make(volume(name("vol"), POOLS[pool]))
    devices = {orders.do(AttachCommand(disk=disk(source), vm_name="vm-1")).details for _ in range(2)}
    assert len(devices) == 1
    mine = replace(source, vm_name="vm-1")
    for known in (source, mine) if pool == "array" else (mine,):  # a file does not say who has it open
        assert orders.refused(DeleteCommand(data=known)).startswith("in_use (not_applied)")
    assert "in_use" in orders.refused(ForgetObjectCmd(data=source))
    for command in (DettachCommand, DetachCommand):
        answer = orders.do(command(disk=disk(source), vm_name="vm-1"))
        assert type(answer).__name__ == command.__name__.replace("Command", "Answer")
    assert orders.leftovers() == []
    orders.do(DeleteCommand(data=source))


def test_a_volume_is_not_reverted_to_anothers_snapshot(orders, name):
    """A path that leads to another volume's archived snapshot is refused, and no byte is changed."""
    one, other = orders.make(volume(name("vol"), FILES)), orders.make(volume(name("vol"), FILES))
    cut = orders.made(CreateObjectCommand(data=snapshot(1, one)))
    kept = orders.do(CopyCommand(source=cut, destination=snapshot(1, one, NFS))).new_data
    wrong = replace(kept, volume=other)
    assert orders.refused(RevertSnapshotCommand(data=wrong)).startswith("invalid_argument (not_applied)")
    assert orders.read(other) == noise(other.uuid)


def test_dettach_from_a_vm_that_is_gone(rig, tmp_path, monkeypatch, name):
    """Where several hypervisors are, and none knows the VM any more, each host lets go of the volume."""
    monkeypatch.setenv("BOLLARD_STATE", str(tmp_path / "state"))
    other = {"driver": "hypervisor-sim", "host": "h2", "options": {"url": rig.cluster.url}}
    config = tmp_path / "bollard.toml"
    config.write_text(rig.config.read_text() + "\n" + toml_of({"hypervisors.other": other}))
    config.chmod(0o600)
    with Site(load_config(config)) as site:
        orders = Orders(site)
        of = orders.make(volume(name("vol"), ARRAY))
        orders.do(IntroduceObjectCmd(data=replace(of, vm_name="vm-1")))
        assert orders.leftovers() != []
        for _ in range(2):
            orders.do(DettachCommand(disk=disk(of), vm_name="gone"))
        assert orders.leftovers() == []
        orders.do(DeleteCommand(data=of))


def test_attach_to_nobody(orders, name):
    """A VM that is not there is told before anything is granted; dettaching from it is fine."""
    source = orders.make(volume(name("vol")))
    assert "not_found" in orders.refused(AttachCommand(disk=disk(source), vm_name="i-9-9-VM"))
    orders.do(DettachCommand(disk=disk(source), vm_name="i-9-9-VM"))
    assert orders.leftovers() == []


def test_isos_and_passphrases_are_refused(orders, name):
    """What no driver can do is refused before anything is done; the passphrase is in no answer."""
    iso = DiskTO(data=template(name("iso")), volume_type=VolumeType.ISO)
    assert orders.refused(AttachCommand(disk=iso, vm_name="vm-1")).startswith("unsupported (not_applied)")
    secret = volume(name("vol"), passphrase=Secret(SECRET))
    for command in (CreateObjectCommand(data=secret), AttachCommand(disk=disk(secret), vm_name="vm-1")):
        assert "encrypted" in orders.refused(command)
    assert SECRET not in str(orders.ask(DeleteCommand(data=secret)))
    assert not orders.exists(secret)


def test_no_answer_holds_a_secret(orders, name):
    """Answers name stores by their uuids alone, and drop secret details."""
    store = type(ARRAY)(
        uuid=ARRAY.uuid, managed=True, details=Details({"chapInitiatorSecret": Secret(SECRET)})
    )
    source = volume(name("vol"), store)
    answer = orders.do(CreateObjectCommand(data=source))
    assert not answer.data.data_store.details
    hidden = DiskTO(
        data=source, volume_type=VolumeType.DATADISK, details={"chapInitiatorSecret": Secret(SECRET)}
    )
    attached = orders.do(AttachCommand(disk=hidden, vm_name="vm-1"))
    assert not attached.disk.details
    orders.do(DettachCommand(disk=hidden, vm_name="vm-1"))


def test_luns(orders, name):
    """A VDI is copied as it is now to another LUN, named by its identity; a clone is resignatured."""
    source, target = orders.make(volume(name("vdi"))), orders.make(volume(name("lun")), noise("old"))
    identity = orders.site.pool("array").volumes.get(volume_id(target)).identity
    copy = SnapshotAndCopyCommand(
        source_vdi_uuid=source.uuid, destination_details=Details({"iqn": f"/{identity}/0"})
    )
    for _ in range(2):
        assert orders.do(copy).path == target.uuid
    assert orders.read(target) == noise(source.uuid)
    assert orders.snapshots(source) == set()
    details = Details({"uuid": str(target.uuid)})
    told = orders.do(ResignatureCommand(details=details, context=Details({"hypervisorType": "XenServer"})))
    assert (told.size, told.format) == (SIZE, ImageFormat.VHD)
    assert told.path
    assert orders.leftovers() == []
    for bad in (Details({}), Details({"iqn": "iqn.none"})):
        assert orders.refused(ResignatureCommand(details=bad))


def test_a_flat_snapshot_stays_what_it_is(orders, name):
    """An archived snapshot is a complete view: converting it tells where it is."""
    source = orders.make(volume(name("vol"), FILES))
    cut = orders.do(CreateObjectCommand(data=snapshot(1, source))).data
    there = orders.do(CopyCommand(source=cut, destination=snapshot(1, source, NFS))).new_data
    assert orders.do(ConvertSnapshotCommand(snapshot=there)).snapshot.path == there.path
    orders.do(DeleteCommand(data=there))
    assert "not_found" in orders.refused(ConvertSnapshotCommand(snapshot=there))


def test_removing_a_bitmap_of_a_detached_volume(orders, name):
    """A bitmap that is not there is fine, and the volume stays as it is."""
    source = orders.make(volume(name("vol"), FILES))
    orders.do(RemoveBitmapCommand(snapshot=snapshot(1, source, path="snapshots/2/41/gone")))
    assert orders.read(source) == noise(source.uuid)


def test_a_snapshot_straight_to_secondary(orders, name):
    """With a store to write to, a snapshot of a pool of files ends there, verified, and leaves the pool."""
    source = orders.make(volume(name("vol"), FILES))
    wanted = snapshot(1, source, image_store=NFS)
    made = [orders.do(CreateObjectCommand(data=wanted)).data for _ in range(2)]
    assert made[0] == made[1]
    assert made[0].data_store.uuid == NFS.uuid
    assert orders.archived("nfs", source.uuid, cut_id(1, source)) == noise(source.uuid)
    assert orders.snapshots(source) == set()


def test_what_is_no_command(orders):
    """A class that nobody carries out is answered as unsupported, with CloudStack's words."""
    answer = orders.ask(VMSnapshotCommand())
    assert isinstance(answer, UnsupportedAnswer)
    assert "Unsupported command issued" in str(answer.details)


@pytest.mark.parametrize(
    "command",
    [
        CreateObjectCommand(),
        CreateObjectCommand(data=template("t-1")),
        CreateObjectCommand(data=volume("v-1", NFS)),
        DeleteCommand(),
        AttachCommand(vm_name="vm-1"),
        DettachCommand(vm_name="vm-1"),
        IntroduceObjectCmd(),
        IntroduceObjectCmd(data=volume("v-1", NFS)),
        ForgetObjectCmd(),
        RevertSnapshotCommand(),
        ConvertSnapshotCommand(),
        SnapshotAndCopyCommand(),
        ResignatureCommand(),
        RemoveBitmapCommand(),
    ],
    ids=lambda command: type(command).__name__,
)
def test_half_commands(orders, command):
    """A command without what it is about is refused, and nothing was done."""
    assert "(not_applied)" in orders.refused(command)


def test_names_of_objects():
    """Ids come from uuids, paths of our answers, numbers and names, in this order."""
    of = volume("vol-1")
    assert snapshot_id(SnapshotObjectTO(path="vol-1/s1", id=4, name="n")) == "s1"
    assert snapshot_id(SnapshotObjectTO(path="/mnt/5f0c/snapshots/d1", id=4, name="n")) == "snap-4"
    assert snapshot_id(SnapshotObjectTO(name="Web Ü")) == native_id("Web Ü")
    assert archived(SnapshotObjectTO(path="archive/a/b", volume=of)) == ("a", "b")
    assert archived(SnapshotObjectTO(path="snapshots/2/41/n", id=4, volume=of)) == ("vol-1", "snap-4")
    assert vm_id("i-2-12-VM") == native_id("i-2-12-VM")
    with pytest.raises(InvalidArgument):
        volume_id(volume("x", uuid=None, path="/iqn.2010-01.com.example:vol.41/0"))


def _call() -> Call:
    return Call.within(30)


def test_a_failure_with_an_odd_file_name_is_answered(orders, name):
    """A file in a pool whose name is no UTF-8 gets an answer that says so, and that the wire takes."""
    of = orders.make(volume(name("vol"), FILES))
    own = own_image(orders.site.pool("files"), volume_id(of), Call.within(60)).path
    middle = own.with_name(f"{of.uuid}.m.qcow2")
    odd = own.with_name(f"{of.uuid}." + os.fsdecode(b"\xff.qcow2"))
    for below, above in ((own, middle), (middle, odd)):
        create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", below, above]
        subprocess.run(create, check=True, timeout=60)
    answer = orders.ask(DeleteDiskOnlyVmSnapshotCommand(snapshots=(snapshot(1, of, path=middle.name),)))
    odd.unlink()
    middle.unlink()
    assert answer.details == rf"has_dependents (not_applied): {of.uuid}.\udcff.qcow2 stands on {middle.name}"
    assert Payload.of(answer).wire()
