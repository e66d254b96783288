"""The snapshot service on a real guest: its LUN archived while it runs, and brought back to LUN and file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bollard.core.access import Mover
from bollard.core.catalog import Catalog
from bollard.core.catalog.snapshots import SnapshotState
from bollard.core.journal import Journal
from bollard.core.mover import mover_host
from bollard.core.pool import Pool
from bollard.core.service.from_snapshot import VolumeRequest, to_volume
from bollard.core.service.from_snapshot_revert import revert
from bollard.core.spi import (
    FileLocation,
    GuestState,
    Introduction,
    InUse,
    ObjectKind,
    Unsupported,
    parse_options,
)
from bollard.core.store import Store
from bollard.core.vm_snapshots import Hypervisor
from bollard.core.vm_snapshots.machine import Machine, VmVolume
from bollard.drivers.primary.iscsi_ssh import IscsiSshDriver
from bollard.drivers.primary.qcow2 import Qcow2Driver
from bollard.drivers.secondary.nfs import NfsDriver
from bollard.transfer_objects.enums import HypervisorType
from bollard.transfer_objects.ids import HostId, SnapshotId, VmId, VolumeId
from iscsi_rig import host as identity_of
from iscsi_rig import prepared_array, typed_options
from kvm_driving import MIB, KvmRig, device_in
from kvm_lab import Guest

from ..service.service_rig import Cloud, TestSite, call

pytest_plugins = ["kvm_rig_fixture"]
pytestmark = [pytest.mark.real(root=True), pytest.mark.slow]

DATA, S1 = VolumeId("data-1"), SnapshotId("s-1")
FIRST, SECOND = "/tmp/first", "/tmp/second"  # noqa: S108 - of the guest


@pytest.fixture
def cloud(kvm_rig: KvmRig, tmp_path: Path) -> Iterator[Cloud]:
    """A real array, a directory that the host sees, and a store."""
    for name in ("array", "nightly"):
        (tmp_path / name).mkdir()
    files = kvm_rig.directory / "files"
    files.mkdir()
    with ExitStack() as stack:
        array = stack.enter_context(prepared_array(tmp_path / "array"))
        pools = {
            "lun": Pool("lun", IscsiSshDriver(typed_options(array))),
            "files": Pool("files", Qcow2Driver(parse_options(Qcow2Driver.Options, {"path": files}))),
        }
        store = Store("nightly", NfsDriver(parse_options(NfsDriver.Options, {"path": tmp_path / "nightly"})))
        store.open(call())
        catalog = Catalog(f"sqlite:///{tmp_path}/catalog.db")
        for close in (*(pool.close for pool in pools.values()), store.close, catalog.close):
            stack.callback(close)
        mover = Mover(host=mover_host(tmp_path), journal=Journal(tmp_path / "journal"))
        yield Cloud(tmp_path, TestSite(pools, {"nightly": store}, mover), catalog)


def attach(rig: KvmRig, cloud: Cloud, guest: Guest, volume: VolumeId, pool: Pool) -> str:
    """Give a volume to the guest; return what it calls it."""
    shown = pool.volumes.get(volume)
    if pool.managed:
        location, identity = pool.volumes.grant(volume, identity_of(rig.host.name)), shown.identity
    else:
        location = pool.volumes.locate(volume)
        assert isinstance(location, FileLocation)
        identity = str(location.path.resolve())
    what = Introduction(
        kind=ObjectKind.VOLUME,
        object_id=volume,
        host=HostId(rig.host.name),
        location=location,
        identity=identity,
        size=shown.size,
    )
    rig.attach(guest, what)
    return device_in(guest, what)


def detach(rig: KvmRig, guest: Guest, volume: VolumeId, pool: Pool) -> None:
    """Take it away again."""
    known = rig.known.pop(volume)
    rig.driver.detach(VmId(guest.name), known, call())
    rig.driver.forget(ObjectKind.VOLUME, volume, known.host, call())
    if pool.managed:
        pool.volumes.revoke(volume, known.host)


def write(guest: Guest, device: str, path: str) -> None:
    """The guest writes one of its files to a disk."""
    guest.shell(f"dd if={path} of=/dev/{device} conv=fsync")


def holds(guest: Guest, device: str, path: str) -> bool:
    """Whether the guest reads that file at the start of a disk."""
    content = guest.read_file(path)
    read = f"dd if=/dev/{device} bs=1 count={len(content)} 2>/dev/null | cmp - {path} && echo same"
    return "same" in guest.shell(f"{read} || true")


def test_a_running_guests_lun(kvm_rig: KvmRig, cloud: Cloud) -> None:
    """What the guest had written is in the archive, and in volumes on LUN and file; it never stood still."""
    lun, files = cloud.site.pools["lun"], cloud.site.pools["files"]
    guest = kvm_rig.guest()
    for path in (FIRST, SECOND):
        guest.write_file(path, path.encode() * 500)
    cloud.make(DATA, "lun", size=16 * MIB)
    device = attach(kvm_rig, cloud, guest, DATA, lun)
    write(guest, device, FIRST)
    cloud.inventory.change(DATA, vm=VmId(guest.name), vm_name=guest.name, host=kvm_rig.host.name)
    cloud.inventory.machines[guest.name] = Machine(
        vm=VmId(guest.name),
        hypervisor=Hypervisor("kvm", kvm_rig.driver),
        family=HypervisorType.KVM,
        volumes=(VmVolume(volume=DATA, device=device, pool=lun),),
    )
    with pytest.raises(Unsupported):  # the array freezes nobody
        cloud.take(S1, DATA, "Archive", quiesce=True)

    assert cloud.take(S1, DATA, "Archive").state is SnapshotState.BACKED_UP
    write(guest, device, SECOND)
    assert (cloud.on_pool(DATA), cloud.images()) == ([], ["data-1/s-1"])
    assert kvm_rig.driver.guest_state(VmId(guest.name), call()) is GuestState.THAWED
    with pytest.raises(InUse):
        revert(cloud.ctx, S1, call())
    for name, pool in (("to-file", files), ("to-lun", lun)):
        target = VolumeId(name)
        to_volume(cloud.ctx, S1, VolumeRequest(id=target, pool=pool.name), call())
        assert holds(guest, attach(kvm_rig, cloud, guest, target, pool), FIRST)
        detach(kvm_rig, guest, target, pool)
    assert holds(guest, device, SECOND)

    detach(kvm_rig, guest, DATA, lun)
    cloud.inventory.change(DATA, vm=None)
    revert(cloud.ctx, S1, call())
    assert holds(guest, attach(kvm_rig, cloud, guest, DATA, lun), FIRST)
    detach(kvm_rig, guest, DATA, lun)
    cloud.service.delete(S1, call())
    assert (cloud.images(), cloud.sync(), cloud.leftovers()) == ([], [], [])
