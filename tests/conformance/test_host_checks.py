"""The checks of hypervisors judge rightly: a good cluster passes, and what is told names the cause."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from bollard.conformance.checks import hosts, vm_snapshots
from bollard.conformance.host_lab import HostLab, HostSettings, one_instant, open_hypervisor
from bollard.conformance.lab import ContractBroken, NotApplicable
from bollard.conformance.registry import ATTRIBUTE
from bollard.core.plugins import registered
from bollard.core.spi import HypervisorDriver, InvalidArgument, NotFound
from bollard.drivers.hypervisor.driver import SimulatedHypervisorDriver
from bollard.simulators.hypervisor import HypervisorSimulator
from hypervisor_rig import NO_TLS, prepare, prepared_cluster

NAME = "hypervisor-in-test"
CHECKS: dict[str, Callable[[HostLab], None]] = {
    getattr(found, ATTRIBUTE).id: found
    for module in (hosts, vm_snapshots)
    for found in vars(module).values()
    if hasattr(found, ATTRIBUTE)
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
    assert [(vm["disks"], vm["frozen"]) for vm in vms] == [({}, False)] * 2


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
            ({"host": "h2"}, "host 'h2' is not one of ['h1']"),
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
