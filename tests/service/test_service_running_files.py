"""Snapshots of files that a running guest writes: to an overlay while the pool copies the volume."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bollard.core.catalog.snapshots import SnapshotState
from bollard.core.service.from_snapshot import VolumeRequest, to_volume
from bollard.core.service.from_snapshot_revert import revert
from bollard.core.service.from_snapshot_template import TemplateRequest, to_template
from bollard.core.service.snapshots_claims import claimed
from bollard.core.service.transient import sync_all
from bollard.core.spi import (
    Busy,
    Conflict,
    FileLocation,
    InUse,
    InvalidArgument,
    Outcome,
    Unavailable,
    Unsupported,
)
from bollard.transfer_objects.ids import SnapshotId, TemplateId, VolumeId
from vm_cloud import VM, SimulatedCloud, call

from .service_rig import Cloud
from .test_service_guests import DISK, S1, cloud_over, recorded

Both = tuple[SimulatedCloud, Cloud]


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Both]:
    """A running VM with one disk on a pool of files, which held one file before each test."""
    with cloud_over(tmp_path, "file") as (vms, cloud):
        vms.write("before", "the cut")
        yield vms, cloud


def overlays(vms: SimulatedCloud) -> list[str]:
    """The files of cuts that are under way, or were left."""
    return sorted(path.name for path in (vms.directory / "pool").rglob("*.cut.*"))


def live(vms: SimulatedCloud) -> str:
    """The file that the guest writes to."""
    [disk] = vms.driver.vm_disks(VM, call())
    assert isinstance(disk.location, FileLocation)
    return disk.location.path.name


def during(target: object, name: str, act: Callable[[], Any]) -> None:
    """Let something happen just before a driver's call."""
    method = getattr(target, name)
    vars(target)[name] = lambda *args, **more: (act(), method(*args, **more))[1]


def files_of(vms: SimulatedCloud, cloud: Cloud) -> set[str]:
    """What a guest finds on the volume after it was reverted to the snapshot."""
    vms.stop()
    revert(cloud.ctx, S1, call())
    vms.start()
    return set(vms.read())


def clean(vms: SimulatedCloud, cloud: Cloud) -> None:
    """Nothing is left of any cut, and the guest writes to its own file."""
    assert (overlays(vms), live(vms)) == ([], "vol-0.raw")
    assert not vms.frozen()
    assert cloud.leftovers() == []


def test_the_instant_is_kept_and_nothing_later_is_lost(both: Both):
    """What the guest writes during the copy is not in the snapshot, and is on its disk when it has ended."""
    vms, cloud = both
    during(cloud.site.pools["file"].driver, "create_snapshot", lambda: vms.write("meanwhile", "x"))
    found = cloud.take(S1, DISK, keep_on_primary=True)

    assert found.state is SnapshotState.BACKED_UP
    assert (cloud.on_pool(DISK), cloud.images()) == ([S1], ["vol-0/s-1"])
    assert set(vms.read()) == {"before", "meanwhile"}
    clean(vms, cloud)
    assert files_of(vms, cloud) == {"before"}


def test_the_copy_to_secondary_comes_later(both: Both):
    """With wait=False it rests on the pool, and the backup is due; then the pool's goes, and nothing else."""
    vms, cloud = both
    found = cloud.take(S1, DISK, wait=False)
    assert (found.state, found.order.wanted) == (SnapshotState.CREATED_ON_PRIMARY, True)
    clean(vms, cloud)
    vms.write("after", "x")
    assert cloud.service.backup(S1, call()).state is SnapshotState.BACKED_UP
    assert (cloud.on_pool(DISK), cloud.images()) == ([], ["vol-0/s-1"])
    assert files_of(vms, cloud) == {"before"}
    cloud.service.delete(S1, call())
    assert (cloud.images(), cloud.books.counted) == ([], {})


def test_the_second_one_is_an_increment_of_the_first(both: Both):
    """It is based on the newest one that is archived, and whole without it."""
    vms, cloud = both
    first = cloud.take(S1, DISK)
    vms.write("after", "x")
    second = cloud.take("s-2", DISK)
    assert second.refs[-1].parent == first.refs[-1].id
    cloud.service.delete(S1, call())
    to_volume(cloud.ctx, SnapshotId("s-2"), VolumeRequest(id=VolumeId("copy"), pool="file"), call())
    assert b"after" in cloud.read(VolumeId("copy"), "file")


def test_a_snapshot_of_a_running_guest_becomes_a_volume_and_a_template(both: Both):
    """The rest of the service finds nothing special about it."""
    vms, cloud = both
    cloud.take(S1, DISK)
    vms.write("after", "x")
    to_volume(cloud.ctx, S1, VolumeRequest(id=VolumeId("copy"), pool="file"), call())
    to_template(cloud.ctx, S1, TemplateRequest(id=TemplateId("t-1"), store="nightly"), call())
    content = cloud.read(VolumeId("copy"), "file")
    assert b"before" in content
    assert b"after" not in content
    assert cloud.images() == ["t-1/image", "vol-0/s-1"]


def test_the_guest_is_frozen_for_the_overlay_and_no_longer(both: Both):
    """With quiesce the record says how long it stood still; the copy is made while it runs."""
    vms, cloud = both
    frozen: list[bool] = []
    during(cloud.site.pools["file"].driver, "create_snapshot", lambda: frozen.append(vms.frozen()))
    assert cloud.take(S1, DISK, quiesce=True).record.frozen_seconds > 0
    assert frozen == [False]
    clean(vms, cloud)
    vms.stop()
    vars(cloud.site.pools["file"].driver).pop("create_snapshot")
    assert cloud.take("s-2", DISK, quiesce=True).record.frozen_seconds == 0


def test_a_guest_without_an_agent_is_not_cut_unfrozen(both: Both):
    """Quiesce that cannot be had is an error, and leaves an Error row, no overlay, and nothing counted."""
    vms, cloud = both
    vms.stop()
    for one in (f"/vms/{VM}/disks/{DISK}", f"/vms/{VM}"):
        vms.http.delete(one).raise_for_status()
    vms.http.put(f"/vms/{VM}", json={"host": "h1", "agent": False}).raise_for_status()
    disk = {"object": {"kind": "volume", "id": DISK}}
    vms.http.put(f"/vms/{VM}/disks/{DISK}", json=disk).raise_for_status()
    vms.start()
    with pytest.raises(Unavailable):
        cloud.take(S1, DISK, quiesce=True)
    found = recorded(cloud)
    assert found is not None
    assert found.state is SnapshotState.ERROR
    assert (cloud.on_pool(DISK), cloud.books.counted) == ([], {})
    assert overlays(vms) == []
    assert cloud.take("s-2", DISK).state is SnapshotState.BACKED_UP


@pytest.mark.parametrize(
    ("broken", "at"), [("add_overlays", 1), ("create_snapshot", 1), ("vm_disks", 1), ("vm_state", 3)]
)
def test_a_failure_brings_the_guest_back(both: Both, broken: str, at: int):
    """Whichever call fails for good: the guest is back, nothing is left, and the next try works."""
    vms, cloud = both
    target = cloud.site.pools["file"].driver if broken == "create_snapshot" else vms.driver
    method, calls = getattr(target, broken), []

    def failing(*args: Any, **more: Any) -> Any:
        calls.append(args)
        if len(calls) < at:  # before anything is recorded
            return method(*args, **more)
        vars(target).pop(broken)
        if broken == "add_overlays":
            method(*args, **more)  # it was done, though its caller does not get to know
        raise InvalidArgument("no", outcome=Outcome.UNKNOWN)

    vars(target)[broken] = failing
    with pytest.raises(InvalidArgument):
        cloud.take(S1, DISK, quiesce=True)
    found = recorded(cloud)
    assert found is not None
    assert found.state is SnapshotState.ERROR
    assert (cloud.on_pool(DISK), cloud.books.counted) == ([], {})
    clean(vms, cloud)
    assert cloud.take(S1, DISK, quiesce=True).state is SnapshotState.BACKED_UP
    assert set(vms.read()) == {"before"}


@pytest.mark.parametrize("again", [False, True])
def test_a_merge_that_fails_keeps_the_volume_to_itself(both: Both, *, again: bool):
    """Until the guest is back the snapshot is Creating and nothing is told; a repeat or a sync goes on."""
    vms, cloud = both
    during(cloud.site.pools["file"].driver, "create_snapshot", lambda: vms.write("meanwhile", "x"))
    vars(vms.driver)["merge_image"] = _refusing
    with pytest.raises(InvalidArgument):
        cloud.take(S1, DISK)
    found = recorded(cloud)
    assert found is not None
    assert found.state is SnapshotState.CREATING
    assert (overlays(vms), live(vms)) == (["vol-0.s-1.cut.raw"], "vol-0.s-1.cut.raw")
    with pytest.raises(Busy):
        cloud.take("s-2", DISK)
    [ended] = sync_all(cloud.ctx, call())
    assert ended.problem

    vars(vms.driver).pop("merge_image")
    if again:
        cloud.take(S1, DISK)
    cloud.sync()
    clean(vms, cloud)
    assert set(vms.read()) == {"before", "meanwhile"}
    assert files_of(vms, cloud) == {"before"}


def _refusing(*_: Any, **__: Any) -> None:
    raise InvalidArgument("no", outcome=Outcome.NOT_APPLIED)


def test_a_vm_that_is_gone_takes_nothing_with_it(both: Both):
    """An overlay that holds what was written last is not removed because nobody knows its VM any more."""
    vms, cloud = both
    vars(vms.driver)["merge_image"] = _refusing
    with pytest.raises(InvalidArgument):
        cloud.take(S1, DISK)
    vars(vms.driver).pop("merge_image")
    machine = cloud.inventory.machines[VM]
    cloud.inventory.machines[VM] = replace(machine, volumes=())
    [ended] = sync_all(cloud.ctx, call())
    assert "cannot be merged" in ended.problem
    assert overlays(vms) == ["vol-0.s-1.cut.raw"]
    cloud.inventory.machines[VM] = machine
    cloud.sync()
    clean(vms, cloud)


def test_a_second_try_has_the_vm_of_now(both: Both):
    """The volume was nobody's at a first try, which failed; what is left of the second is found at its VM."""
    vms, cloud = both
    cloud.inventory.change(DISK, vm=None)
    with pytest.raises(InUse):
        _once_refused(cloud)
    cloud.inventory.change(DISK, vm=VM)
    vars(vms.driver)["merge_image"] = _refusing
    with pytest.raises(InvalidArgument):
        cloud.take(S1, DISK)
    vars(vms.driver).pop("merge_image")
    cloud.inventory.change(DISK, vm=None)
    with pytest.raises(Busy, match="a sync ends it"):  # the overlay is at the VM
        cloud.take(S1, DISK)
    cloud.sync()
    clean(vms, cloud)


def _once_refused(cloud: Cloud) -> None:
    driver = cloud.site.pools["file"].driver

    def refuse(*_: Any) -> None:
        raise InUse("a running QEMU may write to it")

    vars(driver)["create_snapshot"] = refuse
    try:
        cloud.take(S1, DISK)
    finally:
        vars(driver).pop("create_snapshot")


def test_another_image_than_the_volume_is_not_cut(both: Both):
    """A guest that writes to somebody else's overlay: the volume's file is not what it has on its disk."""
    vms, cloud = both
    [disk] = vms.driver.vm_disks(VM, call())
    assert isinstance(disk.location, FileLocation)
    strange = FileLocation(path=disk.location.path.with_name("strange.raw"), format="raw")
    vms.driver.add_overlays(VM, {disk.device: strange}, call())
    with pytest.raises(Conflict, match=r"strange\.raw"):
        cloud.take(S1, DISK)
    assert (live(vms), cloud.on_pool(DISK)) == ("strange.raw", [])


def test_one_vm_has_one_cut_at_a_time(both: Both):
    """While something living holds the VM a cut is refused, and leaves no row."""
    _, cloud = both
    with claimed(cloud.site.mover().journal, "vm", VM), pytest.raises(Busy):
        cloud.take(S1, DISK)
    assert recorded(cloud) is None
    assert cloud.books.counted == {}


def test_a_vm_that_stops_during_the_copy(both: Both):
    """It is brought back to the volume's own file while it is off, and starts with all that it wrote."""
    vms, cloud = both

    def stop() -> None:
        vms.write("meanwhile", "x")
        vms.stop()

    during(cloud.site.pools["file"].driver, "create_snapshot", stop)
    assert cloud.take(S1, DISK).state is SnapshotState.BACKED_UP
    vms.start()
    assert set(vms.read()) == {"before", "meanwhile"}
    assert live(vms) == "vol-0.raw"
    assert overlays(vms) == []


def test_without_overlays_it_stays_refused(tmp_path: Path):
    """A hypervisor that cannot let the guest write elsewhere gets a typed error, and no row is made."""
    with cloud_over(tmp_path, "file") as (vms, cloud):
        vars(vms.hypervisor)["has"] = lambda _: False
        with pytest.raises(Unsupported, match="neither"):
            cloud.take(S1, DISK)
        assert recorded(cloud) is None
