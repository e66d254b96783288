"""The snapshot service on a real guest's own file: it runs on, frozen for the cut alone, killed or not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import libvirt
import pytest

from bollard.core.catalog.snapshots import SnapshotState
from bollard.core.dataplane import dirty_extents
from bollard.core.dataplane.qcow2_chain import open_chain_source
from bollard.core.service.from_snapshot import VolumeRequest, to_volume
from bollard.core.service.from_snapshot_revert import revert
from bollard.core.service.transient import sync_all
from bollard.core.spi import FileLocation, GuestState, InUse
from bollard.transfer_objects.ids import SnapshotId, VmId, VolumeId
from kvm_driving import MIB, KvmRig
from kvm_lab import Guest

from ..service.service_rig import Cloud, call
from .kvm_service_cloud import DATA, POINTS, killed, know, opened
from .test_kvm_snapshot_service import FIRST, SECOND, attach, detach, holds, write

pytest_plugins = ["kvm_rig_fixture"]
pytestmark = [pytest.mark.real(root=True), pytest.mark.slow]

S1, S2 = SnapshotId("s-1"), SnapshotId("s-2")


@pytest.fixture
def cloud(kvm_rig: KvmRig, tmp_path: Path) -> Iterator[Cloud]:
    """The orchestrator of a test."""
    with ExitStack() as stack:
        yield opened(kvm_rig.directory / "files", tmp_path, stack)


def guest_of(rig: KvmRig, cloud: Cloud) -> tuple[Guest, str]:
    """Boot a guest, and give it a volume of the pool; it has another one mounted, or nothing could freeze."""
    guest, _ = rig.guest_with()
    for path in (FIRST, SECOND):
        guest.write_file(path, path.encode() * 500)
    cloud.make(DATA, "files", size=16 * MIB)
    device = attach(rig, cloud, guest, DATA, cloud.site.pools["files"])
    know(cloud, rig.driver, VmId(guest.name))
    return guest, device


def left(rig: KvmRig, guest: Guest) -> list[str]:
    """What a cut may leave: overlays, scratch files, notes of what was begun, checkpoints, a frozen guest."""
    vm, found = VmId(guest.name), [path.name for path in (rig.directory / "files").rglob("*.cut.*")]
    found += [path.name for path in (rig.directory / "scratch").iterdir()]
    found += [path.name for path in (rig.directory / "state").glob("*/begun/*")]
    found += [one.name for one in rig.driver.checkpoints(vm, call())]
    files = [one.location for one in rig.driver.vm_disks(vm, call()) if one.object_id == DATA]
    found += [str(one) for one in files if not isinstance(one, FileLocation) or one.path.stem != DATA]
    frozen = rig.driver.guest_state(vm, call()) is not GuestState.THAWED
    return [*found, *(["frozen"] if frozen else [])]


def track(rig: KvmRig, guest: Guest, name: str) -> None:
    """Begin a checkpoint, as a chain of snapshots has one (core.snapshots.kvm)."""
    vm, device = VmId(guest.name), device_of(rig, guest)
    rig.driver.begin_backup(vm, device, call(), checkpoint=name)
    rig.driver.end_backup(vm, device, call(), keep=True)


def changed_since(rig: KvmRig, guest: Guest, name: str) -> list[int]:
    """Return where the volume was written since a checkpoint, and end that."""
    vm, device = VmId(guest.name), device_of(rig, guest)
    backup = rig.driver.begin_backup(vm, device, call(), checkpoint="now", since=name)
    with dirty_extents(backup.location, backup.bitmap) as extents:
        found = [extent.offset for extent in extents]
    rig.driver.end_backup(vm, device, call(), keep=False)
    rig.driver.delete_checkpoint(vm, device, name, call())
    return found


def device_of(rig: KvmRig, guest: Guest) -> str:
    """Return what the hypervisor calls the volume."""
    disks = rig.driver.vm_disks(VmId(guest.name), call())
    return next(one.device for one in disks if one.object_id == DATA)


def test_a_running_guests_file(kvm_rig: KvmRig, cloud: Cloud) -> None:
    """The instant is archived and comes back; what is written meanwhile stays, also in a chain's bitmap."""
    guest, device = guest_of(kvm_rig, cloud)
    write(guest, device, FIRST)
    track(kvm_rig, guest, "chain-1")
    files = cloud.site.pools["files"]
    driver: Any = files.driver
    method = driver.create_snapshot

    def meanwhile(*args: Any) -> Any:
        write(guest, device, SECOND)
        assert kvm_rig.driver.guest_state(VmId(guest.name), call()) is GuestState.THAWED
        return method(*args)

    driver.create_snapshot = meanwhile
    found = cloud.take(S1, DATA, quiesce=True, wait=False)
    assert found.state is SnapshotState.CREATED_ON_PRIMARY
    assert found.record.frozen_seconds > 0
    assert left(kvm_rig, guest) == ["chain-1"]
    assert holds(guest, device, SECOND)
    assert changed_since(kvm_rig, guest, "chain-1") == [0]  # it was written while there was an overlay
    driver.create_snapshot = method
    assert cloud.service.backup(S1, call()).state is SnapshotState.BACKED_UP
    assert cloud.take(S2, DATA).refs[-1].parent is not None
    assert (cloud.on_pool(DATA), cloud.images()) == ([], ["data-1/s-1", "data-1/s-2"])

    target = VolumeId("copy")
    to_volume(cloud.ctx, S2, VolumeRequest(id=target, pool="files"), call())
    assert holds(guest, attach(kvm_rig, cloud, guest, target, files), SECOND)
    detach(kvm_rig, guest, target, files)
    with pytest.raises(InUse):
        revert(cloud.ctx, S1, call())
    guest.stop()
    revert(cloud.ctx, S1, call())
    assert cloud.read(DATA).startswith(FIRST.encode() * 500)
    for snapshot in (S1, S2):
        cloud.service.delete(snapshot, call())
    assert (cloud.images(), cloud.sync(), cloud.leftovers()) == ([], [], [])


def test_a_vm_that_is_defined_anew_in_the_midst_of_a_merge(
    kvm_rig: KvmRig, cloud: Cloud, tmp_path: Path
) -> None:
    """Started on the volume itself, it lacks what it wrote to the overlay: that is told, and kept."""
    guest, device = guest_of(kvm_rig, cloud)
    write(guest, device, FIRST)
    assert killed(kvm_rig, tmp_path, guest.name, S1, "merging")
    write(guest, device, SECOND)
    [overlay] = (kvm_rig.directory / "files").rglob("*.cut.qcow2")
    own = cloud.site.pools["files"].volumes.locate(DATA)
    assert isinstance(own, FileLocation)
    guest.stop()
    definition = guest.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    assert str(overlay) in definition
    anew = re.sub(r"<backingStore.*?</backingStore>", "", definition, flags=re.DOTALL)
    guest.host.connection.defineXML(anew.replace(str(overlay), str(own.path)))
    guest.start()
    [ended] = sync_all(cloud.ctx, call())
    assert "was started without it since its merge began" in ended.problem
    guest.stop()
    [ended] = sync_all(cloud.ctx, call())
    assert "was started without it since its merge began" in ended.problem
    assert cloud.read(DATA).startswith(FIRST.encode() * 500)
    with open_chain_source([overlay, own.path]) as kept:
        buffer = bytearray(len(SECOND))
        kept.read_into(0, memoryview(buffer))
    assert buffer == SECOND.encode()


def test_a_service_that_is_killed_leaves_nothing_at_a_guest(
    kvm_rig: KvmRig, cloud: Cloud, tmp_path: Path
) -> None:
    """After a sync the guest is thawed, on its own file with all that it wrote; the same request goes on."""
    guest, device = guest_of(kvm_rig, cloud)
    for number, point in enumerate(POINTS):
        snapshot = f"k-{number}"
        write(guest, device, FIRST)
        assert killed(kvm_rig, tmp_path, guest.name, snapshot, point)
        if point != "frozen":  # else it would wait until the freeze watch thaws it
            write(guest, device, SECOND)
        [ended] = cloud.sync()
        rests = point in ("copied", "merging", "merged")
        assert ended.after == (SnapshotState.CREATED_ON_PRIMARY if rests else SnapshotState.ERROR)
        assert left(kvm_rig, guest) == []
        assert holds(guest, device, FIRST if point == "frozen" else SECOND)
        assert cloud.take(snapshot, DATA, quiesce=True).refs[-1].state == "Ready"
        cloud.service.delete(SnapshotId(snapshot), call())
    guest.stop()
    assert cloud.read(DATA).startswith(SECOND.encode() * 500)
    assert cloud.leftovers() == []
