"""What goes wrong while a running guest's file is snapshotted: it comes back, or nothing else is done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bollard.core.catalog.snapshots import SnapshotState
from bollard.core.config import load_config
from bollard.core.service.recovery import open_services
from bollard.core.service.snapshots_claims import claimed
from bollard.core.service.transient import sync_all
from bollard.core.site import Site
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
from bollard.core.vm_snapshots.records import VmSnapshotSpec
from bollard.transfer_objects.ids import VmSnapshotId
from vm_cloud import VM, SimulatedCloud, call

from .running_rig import Both, clean, during, files_of, live, overlays, running
from .service_rig import Cloud
from .test_service_guests import DISK, S1, cloud_over, recorded


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Both]:
    """The VM of a test."""
    with running(tmp_path) as found:
        yield found


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


@pytest.mark.parametrize("gone", ["disk", "overlays"])
def test_a_vm_that_is_gone_takes_nothing_with_it(both: Both, gone: str):
    """An overlay that holds what was written last is not removed because nobody knows its VM any more."""
    vms, cloud = both
    vars(vms.driver)["merge_image"] = _refusing
    with pytest.raises(InvalidArgument):
        cloud.take(S1, DISK)
    vars(vms.driver).pop("merge_image")
    machine = cloud.inventory.machines[VM]
    if gone == "disk":
        cloud.inventory.machines[VM] = replace(machine, volumes=())
    else:
        vars(vms.hypervisor)["has"] = lambda _: False
    [ended] = sync_all(cloud.ctx, call())
    assert "cannot be merged" in ended.problem
    assert overlays(vms) == ["vol-0.s-1.cut.raw"]
    cloud.inventory.machines[VM] = machine
    vars(vms.hypervisor).pop("has", None)
    cloud.sync()
    clean(vms, cloud)


def test_a_vm_that_was_started_without_the_overlay(both: Both):
    """Its orchestrator defined it anew, on the volume itself: what it wrote before is kept for people."""
    vms, cloud = both
    during(cloud.site.pools["file"].driver, "create_snapshot", lambda: vms.write("meanwhile", "x"))
    vars(vms.driver)["merge_image"] = _refusing
    with pytest.raises(InvalidArgument):
        cloud.take(S1, DISK)
    vars(vms.driver).pop("merge_image")
    _anew(vms)
    assert set(vms.read()) == {"before"}
    [ended] = sync_all(cloud.ctx, call())
    assert "was started without it" in ended.problem
    [overlay] = (vms.directory / "pool").rglob("*.cut.*")
    assert b"meanwhile" in overlay.read_bytes()

    overlay.unlink()
    cloud.sync()
    clean(vms, cloud)


class Killed(BaseException):
    """The service is dead."""


def _killed(both: Both, *, merged: bool) -> None:
    """Take a snapshot whose service dies in the midst of the merge, or when it is just done."""
    vms, cloud = both
    during(cloud.site.pools["file"].driver, "create_snapshot", lambda: vms.write("meanwhile", "x"))
    merge = vms.driver.merge_image

    def dying(*args: Any, **more: Any) -> None:
        if merged:
            merge(*args, **more)
        raise Killed

    vars(vms.driver)["merge_image"] = dying
    with pytest.raises(Killed):
        cloud.take(S1, DISK)
    vars(vms.driver).pop("merge_image")


def _anew(vms: SimulatedCloud) -> None:
    """Start the VM on the volume itself, as who defines it anew for each start."""
    vms.stop()
    vms.http.delete(f"/vms/{VM}/disks/{DISK}").raise_for_status()
    disk = {"object": {"kind": "volume", "id": DISK}}
    vms.http.put(f"/vms/{VM}/disks/{DISK}", json=disk).raise_for_status()
    vms.start()


def test_a_vm_that_was_started_anew_in_the_midst_of_a_merge(both: Both):
    """That a merge was begun does not prove that it was ended: what the overlay holds is kept for people."""
    vms, cloud = both
    _killed(both, merged=False)
    _anew(vms)
    assert set(vms.read()) == {"before"}
    for _ in range(2):
        [ended] = sync_all(cloud.ctx, call())
        assert "was started without it since its merge began" in ended.problem
    vms.stop()
    [ended] = sync_all(cloud.ctx, call())
    assert "was started without it" in ended.problem
    [overlay] = (vms.directory / "pool").rglob("*.cut.raw")
    assert b"meanwhile" in overlay.read_bytes()

    overlay.unlink()
    cloud.sync()
    vms.start()
    clean(vms, cloud)


@pytest.mark.parametrize("since", ["the same run", "off", "started again, then off"])
def test_a_merge_that_was_done_is_believed_if_it_can_be_proven(both: Both, since: str):
    """By the run of the VM, or where it is off by the bytes: the overlay goes, and all is there."""
    vms, cloud = both
    _killed(both, merged=True)
    if since == "started again, then off":
        vms.stop()
        vms.start()
        [ended] = sync_all(cloud.ctx, call())
        assert "since its merge began" in ended.problem
        assert len(overlays(vms)) == 2
    if "off" in since:
        vms.stop()
    cloud.sync()
    if "off" in since:
        vms.start()
    clean(vms, cloud)
    assert set(vms.read()) == {"before", "meanwhile"}


def test_a_hypervisor_that_keeps_no_notes(both: Both):
    """Nothing can be told of the run: the overlay is kept until the VM is off, and its bytes prove it."""
    vms, cloud = both
    vars(vms.driver)["note_run"] = lambda *_: False
    _killed(both, merged=True)
    [ended] = sync_all(cloud.ctx, call())
    assert "since its merge began" in ended.problem
    vms.stop()
    cloud.sync()
    vms.start()
    clean(vms, cloud)
    assert set(vms.read()) == {"before", "meanwhile"}


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


def test_a_vm_snapshot_waits_for_the_cut_of_a_volume(both: Both, monkeypatch: pytest.MonkeyPatch):
    """The services refuse it while the guest may write to the overlay of a cut, dead or alive."""
    vms, cloud = both
    vars(vms.driver)["merge_image"] = _refusing
    with pytest.raises(InvalidArgument):
        cloud.take(S1, DISK)
    config = vms.directory / "bollard.toml"
    config.write_text(f'[catalog]\nurl = "{vms.catalog_url}"\n')
    monkeypatch.setenv("BOLLARD_STATE", str(vms.directory / "state"))
    spec = VmSnapshotSpec(id=VmSnapshotId("v-1"), vm=VM, name="v-1")
    with Site(load_config(config)) as site, open_services(site, machines=vms) as services:
        with pytest.raises(Busy, match="snapshot s-1 that is being made"):
            services.vm_snapshots.create(spec, call())
        assert services.vm_snapshots.records.of_vm(VM) == []
