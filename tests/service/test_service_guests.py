"""Snapshots of a running guest's volumes: quiesced or not at all, and never beside a VM snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bollard.core.access import Mover
from bollard.core.catalog.snapshots import SnapshotState
from bollard.core.journal import Journal
from bollard.core.mover import mover_host
from bollard.core.pool import Pool
from bollard.core.service.from_snapshot_revert import revert
from bollard.core.service.snapshots_records import Found
from bollard.core.spi import Busy, Call, Guest, InUse, QuiescedSnapshots, Snapshot, Unsupported
from bollard.core.vm_snapshots.records import VmSnapshotSpec
from bollard.drivers.primary.array import ArrayDriver
from bollard.transfer_objects.ids import SnapshotId, VmSnapshotId, VolumeId
from vm_cloud import VM, SimulatedCloud

from .conftest import nfs_store
from .service_rig import Cloud, TestSite, call

S1, DISK = SnapshotId("s-1"), VolumeId("vol-0")


class QuiescingArray(ArrayDriver, QuiescedSnapshots):
    """An array that has the guest frozen for its cut."""

    def create_quiesced_snapshot(
        self, volume: VolumeId, snapshot: SnapshotId, guest: Guest, call: Call
    ) -> Snapshot:
        """See `QuiescedSnapshots.create_quiesced_snapshot`."""
        guest.freeze()
        return self.create_snapshot(volume, snapshot, call)


@contextmanager
def cloud_over(directory: Path, disk: str, family: str = "KVM") -> Iterator[tuple[SimulatedCloud, Cloud]]:
    """A VM with one disk, and the service on the same catalog."""
    with SimulatedCloud(directory, ("file" if disk == "file" else "array",), personality=family) as vms:
        if disk == "quiescing":
            vms.pools["array"] = Pool("array", QuiescingArray(vms.pools["array"].driver.options))
        store = nfs_store("nightly", directory / "nightly")
        mover = Mover(host=mover_host(directory), journal=Journal(directory / "journal"))
        cloud = Cloud(directory, TestSite(vms.pools, {"nightly": store}, mover), vms.catalog, overlays="raw")
        cloud.know(DISK, "file" if disk == "file" else "array")
        cloud.inventory.change(DISK, vm=VM, vm_name="web", host="h1")
        cloud.inventory.machines[VM] = vms.machine(VM)
        vms.start()
        try:
            yield vms, cloud
        finally:
            store.close()
            if disk == "quiescing":
                vms.pools["array"].close()


def recorded(cloud: Cloud) -> Found | None:
    """The snapshot, if there is a row of it."""
    return cloud.service.records.find(S1)


def test_a_guest_is_frozen_for_the_cut_only(tmp_path):
    """With quiesce the record tells how long it stood still; it goes on before the copy begins."""
    with cloud_over(tmp_path, "quiescing") as (vms, cloud):
        vms.write("before", "the cut")
        frozen = []
        store = cloud.site.stores["nightly"].driver
        put = store.put
        vars(store)["put"] = lambda *args, **more: (frozen.append(vms.frozen()), put(*args, **more))[1]
        found = cloud.take(S1, DISK, "Archive", quiesce=True)

        assert found.record.frozen_seconds > 0
        assert frozen
        assert not any(frozen)
        assert cloud.images() == ["vol-0/s-1"]
        vms.stop()
        assert cloud.take("s-2", DISK, quiesce=True).record.frozen_seconds == 0


@pytest.mark.parametrize(("disk", "family"), [("array", "KVM"), ("quiescing", "XenServer")])
def test_what_cannot_be_quiesced_is_not_taken(tmp_path, disk, family):
    """Neither without the freeze nor with a row: it is refused."""
    with cloud_over(tmp_path, disk, family) as (vms, cloud):
        with pytest.raises(Unsupported):
            cloud.take(S1, DISK, quiesce=True)
        assert recorded(cloud) is None
        assert vms.files() == []
        assert cloud.take(S1, DISK).record.frozen_seconds == 0


def test_a_vm_snapshot_under_way_keeps_volume_snapshots_waiting(tmp_path):
    """And the reverse: what is being made is what a VM snapshot asks for before it begins."""
    with cloud_over(tmp_path, "array") as (vms, cloud):
        spec = VmSnapshotSpec(id=VmSnapshotId("v-1"), vm=VM, name="v-1")
        vms.records.allocate(spec, strategy="driver", members=(), offering={}, work={})
        with pytest.raises(Busy, match="v-1"):
            cloud.take(S1, DISK)
        assert recorded(cloud) is None
        vms.sync.all(call())
        seen = []
        driver: Any = cloud.site.pools["array"].driver
        create = driver.create_snapshot

        def meanwhile(*args):
            seen.extend(cloud.service.records.of_vm(VM, busy=True))
            return create(*args)

        driver.create_snapshot = meanwhile
        cloud.take(S1, DISK)
        assert seen == [S1]
        assert cloud.service.records.of_vm(VM, busy=True) == []
        assert cloud.service.records.of_vm(VM) == [S1]


def test_a_running_guest_is_not_reverted_under(tmp_path):
    """CloudStack did nothing, and said that it had (#4356); here it is refused until the VM is off."""
    with cloud_over(tmp_path, "array") as (vms, cloud):
        vms.write("first", "1")
        cloud.take(S1, DISK)
        vms.write("second", "2")
        with pytest.raises(InUse, match="stop it first"):
            revert(cloud.ctx, S1, call())
        assert set(vms.read()) == {"first", "second"}
        vms.stop()
        revert(cloud.ctx, S1, call())
        vms.start()
        assert set(vms.read()) == {"first"}


def test_a_guest_that_a_dead_process_left_frozen_is_thawed(tmp_path):
    """The process died between freeze and cut: the sync thaws the guest, and the snapshot ends in Error."""
    with cloud_over(tmp_path, "quiescing") as (vms, cloud):
        driver: Any = cloud.site.pools["array"].driver

        class Killed(BaseException):
            pass

        def dying(*_):
            raise Killed

        driver.create_quiesced_snapshot = dying
        with pytest.raises(Killed):
            cloud.take(S1, DISK, quiesce=True)
        vms.driver.freeze(VM, call())
        assert vms.frozen()
        [ended] = cloud.sync()
        assert (ended.before, ended.after) == (SnapshotState.CREATING, SnapshotState.ERROR)
        assert not vms.frozen()
        assert cloud.books.counted == {}
