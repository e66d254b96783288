"""What volumes, snapshots and groups hold, on a real reflink file system."""

from __future__ import annotations

import os
import random
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bollard.core.dataplane import BlockSink, open_sink
from bollard.core.spi import (
    Conflict,
    Extent,
    ExtentKind,
    InUse,
    InvalidArgument,
    NotFound,
    Outcome,
    OutOfCapacity,
    StorageError,
    Unsupported,
    VmRef,
)
from bollard.core.spi.model import Qos, VolumeSpec
from bollard.drivers.primary.iscsi_ssh import IscsiSshDriver
from bollard.drivers.primary.iscsi_ssh.agent import extents, tgt
from bollard.drivers.primary.iscsi_ssh.names import member_id
from bollard.transfer_objects.ids import SnapshotId, VmId, VmSnapshotId, VolumeId
from iscsi_array import IscsiArray
from iscsi_rig import host, read, spec, what_is_kept
from primary_rig import COPY, DB, MIB, S1, S2, WEB, call

pytestmark = pytest.mark.real(root=True)

VM = VmRef(vm=VmId("vm-1"), snapshot=VmSnapshotId("before"))
BLOCK = 4096


@pytest.fixture
def pool(array: IscsiArray, driver: IscsiSshDriver) -> Iterator[IscsiSshDriver]:
    """A driver; at the end the pool is as empty as before."""
    before = what_is_kept(array)
    yield driver
    for volume in driver.list_volumes(call()).items:
        for held in driver.list_grants(volume.id, call()):
            driver.revoke(volume.id, held.host, call())
        for snapshot in driver.list_snapshots(volume.id, call()).items:
            driver.delete_snapshot(snapshot.id, call())
        driver.delete_volume(volume.id, call())
    assert what_is_kept(array) == before


def _data(driver: IscsiSshDriver, volume: VolumeId) -> Path:
    return Path(driver.get_volume(volume, call()).private["path"])


def _snapshot_data(array: IscsiArray, snapshot: SnapshotId) -> bytes:
    (found,) = (array.pool / ".bollard" / "bollard").glob(f"[sg]/**/{snapshot}/data")
    return found.read_bytes()


@pytest.mark.parametrize("seed", range(3))
def test_changed_blocks_make_the_new_out_of_the_old(
    array: IscsiArray, pool: IscsiSshDriver, seed: int
) -> None:
    """Base and changed blocks give the target byte for byte; what is not listed is the same in both."""
    choice = random.Random(seed)  # noqa: S311 - a seed
    pool.create_volume(spec(), call())
    with open_sink(pool.grant(WEB, host(), call()), timeout=10) as sink:
        _scribble(sink, choice, 60)
        pool.create_snapshot(WEB, S1, call())
        _scribble(sink, choice, 40)
        pool.resize_volume(WEB, 20 * MIB, call())
        pool.create_snapshot(WEB, S2, call())
    base, target = _snapshot_data(array, S1), _snapshot_data(array, S2)
    changes = list(pool.changed(S1, S2, call()))
    assert _applied(base, target, changes) == target
    assert sum(e.length for e in changes) <= 40 * 16 * BLOCK
    allocated = list(pool.changed(None, S2, call()))
    assert _applied(b"", target, allocated) == target
    middle = changes[len(changes) // 2]
    assert list(pool.changed(S1, S2, call(), start=middle.offset)) == changes[len(changes) // 2 :]


def _scribble(sink: BlockSink, choice: random.Random, count: int) -> None:
    for _ in range(count):
        offset, length = choice.randrange(4000) * BLOCK, choice.randrange(1, 16) * BLOCK
        length = min(length, 16 * MIB - offset)
        if choice.random() < 0.3:
            sink.zero(offset, length)
        else:
            sink.write(offset, choice.randbytes(length))
    sink.flush()


def _applied(base: bytes, target: bytes, changes: list[Extent]) -> bytes:
    """Take what is listed from the target, and all else from the base."""
    made = bytearray(base.ljust(len(target), b"\0"))
    for extent in changes:
        new = target[extent.offset : extent.end]
        if extent.kind is ExtentKind.HOLE:
            assert not any(new)
        made[extent.offset : extent.end] = new
    return bytes(made)


def test_changes_come_in_pages(array: IscsiArray, pool: IscsiSshDriver) -> None:
    """Pages of any size, put together, are the whole list."""
    pool.create_volume(spec(), call())
    with open_sink(pool.grant(WEB, host(), call()), timeout=10) as sink:
        for number in range(0, 40, 2):
            sink.write(number * BLOCK, b"x" * BLOCK)
        sink.flush()
    data = _data(pool, WEB)
    whole, following = extents.changes(None, data, 0, 1000)
    assert (len(whole), following) == (20, None)
    for limit in (1, 3, 19, 20):
        assert list(_paged(data, limit)) == whole


def _paged(data: Path, limit: int) -> Iterator[tuple[int, int, str]]:
    start: int | None = 0
    while start is not None:
        page, start = extents.changes(None, data, start, limit)
        yield from page


def test_a_group_is_cut_at_one_instant(array: IscsiArray, pool: IscsiSshDriver) -> None:
    """While dependent writes go over two LUNs, no group snapshot shows the second without the first."""
    for volume in (WEB, DB):
        pool.create_volume(spec(volume, MIB), call())
    sinks = [open_sink(pool.grant(volume, host(), call()), timeout=10) for volume in (WEB, DB)]
    stop, failed = threading.Event(), list[StorageError]()

    def write() -> None:
        generation = 0
        try:
            while not stop.is_set():
                generation += 1
                for sink in sinks:
                    sink.write(0, struct.pack(">Q", generation) * 512)
                    sink.flush()
        except StorageError as error:
            failed.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    torn = []
    for number in range(10):
        vm = VmRef(vm=VM.vm, snapshot=VmSnapshotId(f"cut-{number}"))
        taken = pool.take_vm_snapshot([WEB, DB], vm, call())
        first, second = (
            struct.unpack_from(">Q", _snapshot_data(array, taken.members[volume]))[0] for volume in (WEB, DB)
        )
        if first - second not in (0, 1):
            torn.append((first, second))
        pool.delete_vm_snapshot([WEB, DB], vm, call())
    stop.set()
    writer.join(10)
    for sink in sinks:
        sink.close()
    assert not torn
    assert not failed


def test_a_group_is_reverted_and_deleted_as_one(array: IscsiArray, pool: IscsiSshDriver) -> None:
    """A group is reverted only when all can be; members can go one by one; another group is a conflict."""
    for volume in (WEB, DB, COPY):
        pool.create_volume(spec(volume, MIB), call())
    taken = pool.take_vm_snapshot([WEB, DB], VM, call())
    assert pool.take_vm_snapshot([WEB, DB], VM, call()) == taken
    with pytest.raises(Conflict):
        pool.take_vm_snapshot([WEB, COPY], VM, call())
    for volume in (WEB, DB):
        _data(pool, volume).write_bytes(b"later".ljust(MIB, b"\0"))
    pool.grant(DB, host(), call())
    with pytest.raises(InUse):
        pool.revert_vm_snapshot([WEB, DB], VM, call())
    assert _data(pool, WEB).read_bytes()[:5] == b"later"
    pool.revoke(DB, host().id, call())
    with pytest.raises(NotFound):
        pool.revert_vm_snapshot([WEB, DB, COPY], VM, call())
    pool.revert_vm_snapshot([WEB, DB], VM, call())
    assert _data(pool, WEB).read_bytes() == _data(pool, DB).read_bytes() == bytes(MIB)
    pool.delete_snapshot(member_id(VM.snapshot, WEB), call())
    pool.delete_vm_snapshot([DB], VM, call())
    assert pool.take_vm_snapshot([WEB, DB], VM, call()).members == taken.members
    with pytest.raises(InvalidArgument):
        pool.create_snapshot(WEB, SnapshotId(f"vms-{'0' * 24}-{'1' * 24}"), call())
    pool.delete_vm_snapshot([WEB, DB, COPY], VM, call())
    assert pool.take_vm_snapshot([], VM, call()).members == {}
    pool.delete_vm_snapshot([], VM, call())


def test_an_adopted_file_keeps_its_data_whenever_it_dies(array: IscsiArray, pool: IscsiSshDriver) -> None:
    """A file of the pool is taken over and given back without a copy, and is never without a name."""
    native = array.pool / "disk.raw"
    native.write_bytes(b"theirs".ljust(MIB, b"\0"))
    inode = native.stat().st_ino
    for bad in ("", "../disk.raw", ".bollard", "no-such-file"):
        with pytest.raises((InvalidArgument, NotFound)):
            pool.adopt_volume(bad, spec(WEB, MIB), call())
    with pytest.raises(Conflict):
        pool.adopt_volume("disk.raw", spec(WEB, 2 * MIB), call())
    made = pool.adopt_volume("disk.raw", spec(WEB, MIB), call())
    assert Path(made.private["path"]).stat().st_ino == inode
    assert not native.exists()
    with pytest.raises(InUse):
        pool.adopt_volume("disk.raw", spec(DB, MIB), call())
    native.hardlink_to(made.private["path"])  # as a crash before the last step leaves it
    with pytest.raises(InUse):
        pool.adopt_volume("disk.raw", spec(DB, MIB), call())
    assert pool.adopt_volume("disk.raw", spec(WEB, MIB), call()) == made
    assert not native.exists()
    name = pool.release_volume(WEB, call())
    assert pool.release_volume(WEB, call()) == name
    released = array.pool / name
    assert released.stat().st_ino == inode
    pool.create_volume(spec(WEB, MIB), call())
    with pytest.raises(Conflict):
        pool.release_volume(WEB, call())
    released.unlink()


def test_limits_on_the_rate_are_refused(pool: IscsiSshDriver) -> None:
    """No rate can be limited by tgt, so a volume with limits is not made."""
    with pytest.raises(Unsupported):
        pool.create_volume(VolumeSpec(id=WEB, size=MIB, qos=Qos(max_iops=100)), call())
    assert not pool.list_volumes(call()).items


def test_a_full_pool_takes_nothing_new(array: IscsiArray, pool: IscsiSshDriver) -> None:
    """What could need the last space is refused; who has it goes on, and what is there can be read."""
    pool.create_volume(spec(WEB), call())
    pool.create_volume(spec(DB), call())
    location = pool.grant(DB, host(), call())
    capacity, filler = pool.capacity(call()), array.pool / "filler"
    assert capacity.provisioned == 2 * 16 * MIB
    with filler.open("xb") as file:
        os.posix_fallocate(file.fileno(), 0, capacity.total - capacity.used - 8 * MIB)
    for act in (
        lambda: pool.create_volume(spec(COPY), call()),
        lambda: pool.create_snapshot(WEB, S1, call()),
        lambda: pool.take_vm_snapshot([WEB, DB], VM, call()),
        lambda: pool.resize_volume(WEB, 64 * MIB, call()),
        lambda: pool.grant(WEB, host("h-2"), call()),
    ):
        with pytest.raises(OutOfCapacity) as caught:
            act()
        assert caught.value.outcome is Outcome.NOT_APPLIED
    assert pool.grant(DB, host(), call()) == location
    assert read(pool, WEB) == bytes(4096)
    assert pool.get_volume(WEB, call()).size == 16 * MIB
    filler.unlink()


def test_a_clone_is_made_on_a_full_pool_and_not_written_to(array: IscsiArray, pool: IscsiSshDriver) -> None:
    """A copy needs no space to be read, so a full pool can be archived; who wants to write is refused."""
    pool.create_volume(spec(WEB), call())
    with open_sink(pool.grant(WEB, host(), call()), timeout=10) as sink:
        sink.write(0, b"w" * 16 * MIB)
        sink.flush()
    pool.revoke(WEB, host().id, call())
    pool.create_snapshot(WEB, S1, call())
    capacity, filler = pool.capacity(call()), array.pool / "filler"
    with filler.open("xb") as file:
        os.posix_fallocate(file.fileno(), 0, capacity.total - capacity.used - 8 * MIB)
    pool.create_volume_from_snapshot(S1, spec(COPY), call())

    assert read(pool, COPY) == b"w" * 4096
    for volume in (COPY, WEB):  # all of its blocks are the snapshot's, too
        with pytest.raises(OutOfCapacity):
            pool.grant(volume, host(), call())
    filler.unlink()
    pool.grant(COPY, host(), call())


SHOWN = """\
Target 3: iqn.x:one
    System information:
        Driver: iscsi
        State: ready
    I_T nexus information:
        I_T nexus: 7
            Initiator: iqn.host alias: none
            Connection: 2
                IP Address: 127.0.0.1
    LUN information:
        LUN: 0
            Type: controller
            SCSI SN: beaf10
            Readonly: No
            Backing store path: None
        LUN: 1
            Type: disk
            SCSI SN: 0123
            Readonly: Yes
            Backing store path: /pool/a b.raw
            Backing store flags:
    Account information:
        user-1
        user-2 (outgoing)
    ACL information:
        iqn.host
Target 4: iqn.x:two
    Account information:
    ACL information:
"""


def test_what_tgtd_shows_is_understood() -> None:
    """Targets, sessions, the LUN, accounts and ACL are read from tgtd's text; an empty one has none."""
    one, two = tgt.parse_targets(SHOWN)
    assert one == tgt.Target(
        tid=3,
        name="iqn.x:one",
        lun="/pool/a b.raw",
        serial="0123",
        read_only=True,
        sessions=[(7, 2)],
        accounts=["user-1"],
        initiators=["iqn.host"],
    )
    assert two == tgt.Target(tid=4, name="iqn.x:two")
    assert tgt.parse_targets("") == []
