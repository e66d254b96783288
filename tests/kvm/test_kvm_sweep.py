"""`bollard sweep` on a real host: a checkpoint and an introduction that nobody owns, beside others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from bollard.core.catalog import Catalog
from bollard.core.catalog.holds import HoldEvent
from bollard.core.catalog.holds import Introduction as Known
from bollard.core.catalog.places import HostRecord
from bollard.core.catalog.volume_states import VolumeEvent
from bollard.core.catalog.volumes import VolumeRecord
from bollard.core.service.leftovers import End, Run
from bollard.core.service.sweep_hosts import HostPlace
from bollard.core.spi import Introduction
from bollard.core.vm_snapshots.hypervisor import Hypervisor
from gone_snapshots import record_snapshot
from kvm_driving import KvmRig, call, path_of

pytest_plugins = ["kvm_rig_fixture"]
pytestmark = [pytest.mark.real(root=True), pytest.mark.slow]

NOW = "2026-11-22T05:00:00.000+00:00"


@pytest.fixture
def catalog(tmp_path) -> Iterator[Catalog]:
    """An orchestrator's records."""
    with closing(Catalog(f"sqlite:///{tmp_path}/catalog.db")) as opened:
        yield opened


def record(catalog: Catalog, what: Introduction, vm: str | None, device: str, *, released: bool) -> None:
    """Record a volume that its host was made to know, and perhaps released."""
    with catalog.transaction() as session:
        volume = VolumeRecord(id=what.object_id, pool="files", created=NOW, vm=vm, device=device)
        session.add(volume)
        volume.take(VolumeEvent.SUCCEEDED)
        known = Known(volume=what.object_id, pool="files", host=what.host, created=NOW)
        session.add(known)
        known.take(HoldEvent.SUCCEEDED)
        if released:
            known.take(HoldEvent.RELEASE_REQUESTED)
            known.take(HoldEvent.SUCCEEDED)


@pytest.mark.parametrize("running", [True, False])
def test_what_nobody_owns_goes_and_the_rest_stays(
    kvm_rig: KvmRig, catalog: Catalog, *, running: bool
) -> None:
    """The checkpoint of a snapshot that is gone, with its bitmap, and an introduction that was released."""
    vm = kvm_rig.blank()
    driver = kvm_rig.driver
    [used] = kvm_rig.disks(vm, 1)
    unused, theirs = kvm_rig.volume(), kvm_rig.volume()
    for one in (unused, theirs):
        driver.introduce(one, call())
    if not running:
        vm.stop()
    since = None
    for name in ("s-gone", "s-here"):
        driver.begin_backup(vm.name, "vda", call(), checkpoint=name, since=since)
        driver.end_backup(vm.name, "vda", call(), keep=True)
        since = name
    with catalog.transaction() as session:
        session.add(HostRecord(id=used.host, name=used.host, hypervisor="kvm"))
    record(catalog, used, vm.name, "vda", released=False)
    record(catalog, unused, None, "", released=True)
    record_snapshot(catalog, used.object_id, "s-gone", gone=True)
    record_snapshot(catalog, used.object_id, "s-here", gone=False)
    place = HostPlace(hypervisor=Hypervisor("kvm", driver), catalog=catalog)

    def swept(*, dry_run: bool = False) -> set[tuple[str, str, End]]:
        found = place.sweep(Run(call=call(), dry_run=dry_run, older_than=0))
        return {(one.leftover.kind, one.leftover.name, one.end) for one in found}

    expected = {("introduction", unused.object_id), ("checkpoint", "vda/s-gone")}
    assert swept(dry_run=True) == {(*one, End.FOUND) for one in expected}
    assert swept() == {(*one, End.REMOVED) for one in expected}
    assert swept() == set()
    assert [one.name for one in driver.checkpoints(vm.name, call())] == ["s-here"]
    known = {one.object_id for one in driver.introductions(used.host, call())}
    assert known == {used.object_id, theirs.object_id}
    assert path_of(unused).exists()
    driver.begin_backup(vm.name, "vda", call(), checkpoint="s-next", since="s-here")
    driver.end_backup(vm.name, "vda", call(), keep=False)


def test_the_backup_of_a_vm_that_is_gone_is_ended(kvm_rig: KvmRig, catalog: Catalog) -> None:
    """Its scratch file and its record go, once nobody makes the snapshot any more and it is old enough."""
    vm, driver = kvm_rig.blank(), kvm_rig.driver
    [disk] = kvm_rig.disks(vm, 1)
    driver.begin_backup(vm.name, "vda", call(), checkpoint="s-gone")
    [begun] = driver.begun_backups(call())
    assert (begun.vm, begun.device, begun.checkpoint) == (vm.name, "vda", "s-gone")
    vm.remove()
    place = HostPlace(hypervisor=Hypervisor("kvm", driver), catalog=catalog)

    def swept(older_than: float, *, dry_run: bool = False) -> list[tuple[str, str, End]]:
        found = place.sweep(Run(call=call(), dry_run=dry_run, older_than=older_than))
        return [(one.leftover.kind, one.leftover.name, one.end) for one in found]

    scratch = kvm_rig.directory / "scratch"
    assert swept(0) == []  # no snapshot of ours is called like that
    record_snapshot(catalog, disk.object_id, "s-gone", gone=True)
    assert swept(3600) == []
    assert swept(0, dry_run=True) == [("backup", "vda/s-gone", End.FOUND)]
    assert list(scratch.glob("*.qcow2"))
    assert swept(0) == [("backup", "vda/s-gone", End.REMOVED)]
    assert (list(scratch.iterdir()), list(driver.begun_backups(call()))) == ([], [])
    assert swept(0) == []
