"""The checks of hypervisors judge rightly: a good cluster passes, and what is told names the cause."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from bollard.conformance.checks import (
    host_vms,
    hosts,
    vm_snapshot_freezes,
    vm_snapshot_images,
    vm_snapshot_merges,
    vm_snapshots,
)
from bollard.conformance.host_lab import HostLab, HostSettings, one_instant, open_hypervisor
from bollard.conformance.host_objects import GUEST_AREA, TestObject
from bollard.conformance.lab import ContractBroken, NotApplicable
from bollard.conformance.registry import ATTRIBUTE
from bollard.core.dataplane.qemu_img import create_image
from bollard.core.plugins import registered
from bollard.core.spi import Call, HypervisorDriver, InvalidArgument, NotFound
from bollard.drivers.hypervisor.driver import SimulatedHypervisorDriver
from bollard.simulators.hypervisor import HypervisorSimulator
from hypervisor_rig import NO_TLS, prepare, prepared_cluster

NAME = "hypervisor-in-test"
MODULES = (hosts, host_vms, vm_snapshots, vm_snapshot_freezes, vm_snapshot_images, vm_snapshot_merges)
CHECKS: dict[str, Callable[[HostLab], None]] = {
    getattr(found, ATTRIBUTE).id: found
    for module in MODULES
    for found in vars(module).values()
    if hasattr(found, ATTRIBUTE)
    and all(issubclass(SimulatedHypervisorDriver, mixin) for mixin in getattr(found, ATTRIBUTE).needs)
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Iterator[tuple[HypervisorSimulator, HostSettings]]:
    """A cluster that tests share as long as it is good."""
    with prepared_cluster(tmp_path_factory.mktemp("shared")) as cluster:
        yield cluster


@contextmanager
def opened(url: str) -> Iterator[HypervisorDriver]:
    """A driver of a cluster, as the suite opens it."""
    with registered(NAME, SimulatedHypervisorDriver), closing(open_hypervisor(NAME, {"url": url})) as driver:
        yield driver


@contextmanager
def lab_of(cluster: HypervisorSimulator, place: HostSettings, patience: float = 10) -> Iterator[HostLab]:
    """A lab on a cluster."""
    with opened(cluster.url) as driver, HostLab.open(driver, replace(place, patience=patience), "t") as lab:
        yield lab


@pytest.mark.parametrize("check", CHECKS)
def test_a_good_hypervisor_passes(prepared, check):
    """The check passes, and leaves neither object, nor device, nor file, nor snapshot."""
    cluster, place = prepared
    with lab_of(cluster, place) as lab:
        CHECKS[check](lab)
    assert list(place.objects.iterdir()) == []
    with httpx.Client(verify=NO_TLS, base_url=cluster.url) as http:
        assert http.get("/hosts/h1/devices").json() == []
        vms = http.get("/vms").json()
    shown = {vm["id"]: (vm["disks"], vm["frozen"], vm["state"]) for vm in vms}
    assert shown == {"vm-1": ({}, False, "running"), "vm-2": ({}, False, "stopped")}


@pytest.mark.parametrize("name", ["there_and_back", "failure_runs_on"])
def test_without_a_second_host_nothing_is_moved(prepared, name):
    """The vendor has not configured one: the check means nothing."""
    cluster, place = prepared
    alone = replace(place, second_host="")
    with lab_of(cluster, alone) as lab, pytest.raises(NotApplicable, match="names no second_host"):
        getattr(host_vms, f"check_migrate_{name}")(lab)


def test_a_family_that_cannot_freeze_is_no_failure(tmp_path):
    """XenServer cannot quiesce: the checks of freezing do not apply, those of stopped VMs do."""
    with prepared_cluster(tmp_path, "XenServer") as (cluster, place):
        for check in ("vmsnap.freeze_stops_writes", "vmsnap.multi_disk_one_instant"):
            with lab_of(cluster, place) as lab, pytest.raises(NotApplicable, match="cannot freeze"):
                CHECKS[check](lab)
        with lab_of(cluster, place) as lab:
            CHECKS["vmsnap.revert_all_disks"](lab)


class TestPreparations:
    """What the vendor has prepared is looked at before any check."""

    def table(self, directory: Path, **changes: object) -> dict[str, object]:
        """A table [hypervisor]."""
        good = {"host": "h1", "vm": "vm-1", "stopped_vm": "vm-2", "objects": str(directory)}
        return {key: value for key, value in (good | changes).items() if value != ""}

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"host": ""}, "host (text) is required"),
            ({"hosts": "h1"}, "'hosts' is unknown"),
            ({"objects": "/nowhere"}, "is not an absolute directory"),
            ({"objects": "."}, "is not an absolute directory"),
            ({"patience": 0}, "patience is a number of seconds"),
            ({"format": "vmdk"}, "format is one of raw, qcow2, not 'vmdk'"),
            ({"second_host": "h1"}, "second_host is another host"),
        ],
    )
    def test_a_bad_table_is_told(self, tmp_path, change, words):
        """The error names the key and the rule."""
        with pytest.raises(InvalidArgument) as caught:
            HostSettings.of(self.table(tmp_path, **change))
        assert words in caught.value.message

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"host": "h3"}, "host 'h3' is not one of ['h1', 'h2']"),
            ({"second_host": "h3"}, "host 'h3' is not one of ['h1', 'h2']"),
            ({"vm": "vm-2"}, "VM 'vm-2' is stopped, and must be running"),
            ({"stopped_vm": "vm-1"}, "VM 'vm-1' is running, and must be stopped"),
        ],
    )
    def test_what_is_not_prepared_is_told(self, prepared, tmp_path, change, words):
        """A host that is not there, and a VM in the wrong power state, end the run before it begins."""
        place = HostSettings.of(self.table(tmp_path, **change))
        with (
            opened(prepared[0].url) as driver,
            pytest.raises(InvalidArgument) as caught,
            HostLab.open(driver, place, "t"),
        ):
            pass
        assert words in caught.value.message

    def test_an_unknown_vm_is_not_found(self, prepared, tmp_path):
        """The driver's own words are passed on."""
        place = HostSettings.of(self.table(tmp_path, vm="vm-9"))
        with opened(prepared[0].url) as driver, pytest.raises(NotFound), HostLab.open(driver, place, "t"):
            pass

    def test_a_driver_of_another_kind_is_refused(self):
        """The table [hypervisor] is for hypervisor drivers."""
        with pytest.raises(InvalidArgument, match="is not a hypervisor driver"):
            open_hypervisor("qcow2", {})


def test_disks_without_the_writers_blocks_are_told(prepared):
    """A guest that does not run the writer is no proof of anything."""
    cluster, place = prepared
    with lab_of(cluster, place) as lab, pytest.raises(ContractBroken, match="holds blocks of the disks"):
        one_instant([lab.object()])


def test_preparing_twice_is_fine(prepared):
    """The rig can be used on a cluster that is prepared already."""
    cluster, place = prepared
    assert prepare(cluster.url, place.objects) == place


class TestObjects:
    """What is introduced says the same in either format."""

    @pytest.fixture(params=["raw", pytest.param("qcow2", marks=pytest.mark.real)])
    def thing(self, request, tmp_path) -> TestObject:
        """An object of generation 1."""
        made = TestObject(id="t-1", path=tmp_path / "t-1", format=request.param)
        made.make()
        made.write(1)
        return made

    def test_what_was_written_is_judged_block_by_block(self, thing):
        """Each share of the blocks has its generation, and what is wrong is told by its place."""
        thing.judge(1)
        thing.write(2, after=8)
        thing.judge(1, 1, 2)
        with pytest.raises(ContractBroken, match="0x80000 holds generation 2, newer than the expected 1"):
            thing.judge(1)
        assert thing.length() == thing.size
        assert thing.guest_part() == bytes(GUEST_AREA)

    def test_an_object_is_made_once(self, thing):
        """Nothing is written over."""
        with pytest.raises(FileExistsError):
            thing.make()

    def test_what_is_gone_is_told(self, thing):
        """A file that a driver has removed is not a crash of the suite."""
        thing.path.unlink()
        with pytest.raises(ContractBroken, match="is GONE"):
            thing.judge(1)


@pytest.mark.real
def test_an_overlay_is_seen_through_to_what_it_stands_on(tmp_path):
    """A qcow2 overlay holds what was written to it, and shows the rest of its base."""
    base = TestObject(id="t-1", path=tmp_path / "base", format="qcow2")
    base.make()
    base.write(1)
    over = base.at(tmp_path / "over")
    create_image(over.path, over.size, Call.within(30), backing=str(base.path))
    over.judge(1)
    over.write(2, after=6)
    over.judge(1, 2)
    base.judge(1)


def test_a_format_whose_tools_are_missing_is_told(monkeypatch, tmp_path):
    """Before the run begins, and by name."""
    monkeypatch.setenv("PATH", "")
    table = {"host": "h1", "vm": "vm-1", "stopped_vm": "vm-2", "objects": str(tmp_path), "format": "qcow2"}
    with pytest.raises(InvalidArgument, match="needs qemu-img, qemu-nbd on this machine"):
        HostSettings.of(table)
