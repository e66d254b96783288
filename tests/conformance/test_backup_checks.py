"""The checks of backups judge rightly, and what they make is in the ledger before it is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bollard.conformance.backup_lab import BackupLab
from bollard.conformance.checks import checkpoints, incremental
from bollard.conformance.clean import Place, remove
from bollard.conformance.host_lab import HostLab, HostSettings, open_hypervisor
from bollard.conformance.lab import NotApplicable
from bollard.conformance.ledger import Intent, Kind, Ledger
from bollard.conformance.recording import Recorder, open_recorded_hypervisor
from bollard.conformance.registry import ATTRIBUTE
from bollard.conformance.settings import SuiteSettings
from bollard.core.plugins import registered
from bollard.core.spi import Backups, NotFound
from bollard.drivers.hypervisor.driver import SimulatedHypervisorDriver
from bollard.simulators.hypervisor import HypervisorSimulator
from hypervisor_rig import prepared_cluster

pytestmark = pytest.mark.real  # qemu-img, qemu-io and qemu-nbd

NAME = "hypervisor-in-test"
CHECKS: dict[str, Callable[[HostLab], None]] = {
    getattr(found, ATTRIBUTE).id: found
    for module in (incremental, checkpoints)
    for found in vars(module).values()
    if hasattr(found, ATTRIBUTE)
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Iterator[tuple[HypervisorSimulator, HostSettings]]:
    """A cluster that tests share as long as it is good."""
    with prepared_cluster(tmp_path_factory.mktemp("shared")) as cluster:
        yield cluster


@contextmanager
def lab_of(cluster: HypervisorSimulator, place: HostSettings) -> Iterator[HostLab]:
    """A lab on a cluster."""
    with (
        registered(NAME, SimulatedHypervisorDriver),
        closing(open_hypervisor(NAME, {"url": cluster.url})) as driver,
        HostLab.open(driver, replace(place, patience=10), "t") as lab,
    ):
        yield lab


def left(lab: HostLab) -> list[str]:
    """Return the checkpoints of both VMs."""
    assert isinstance(lab.driver, Backups)
    vms = (lab.place.vm, lab.place.stopped_vm)
    return [one.name for vm in vms for one in lab.driver.checkpoints(vm, lab.call())]


@pytest.mark.parametrize("check", CHECKS)
def test_a_good_hypervisor_passes(prepared, check):
    """The check passes, and leaves neither job, nor checkpoint, nor file."""
    cluster, place = prepared
    with lab_of(cluster, place) as lab:
        CHECKS[check](lab)
        assert left(lab) == []
    assert list(place.objects.iterdir()) == []
    assert list((cluster.state / "backups").glob("*")) == []


def test_a_family_without_backups_refuses(tmp_path):
    """It says so, and the check sees that it holds to it."""
    with prepared_cluster(tmp_path, "Hyperv") as (cluster, place), lab_of(cluster, place) as lab:
        CHECKS["host.undeclared_backups_refused"](lab)


def test_what_cannot_be_backed_up_is_no_failure(prepared, monkeypatch):
    """A driver that tracks no such files makes the check not applicable."""
    monkeypatch.setenv("PATH", "")
    with (
        lab_of(*prepared) as lab,
        pytest.raises(NotApplicable, match="cannot back up raw files"),
        BackupLab.open(lab, lab.place.vm) as backups,
    ):
        backups.take()


def test_the_first_failure_is_told_and_all_is_taken_away(prepared):
    """What a check has begun does not outlive it, whatever happened."""
    with lab_of(*prepared) as lab:
        with pytest.raises(ZeroDivisionError):
            _fail_half_way(lab)
        assert left(lab) == []


def _fail_half_way(lab: HostLab) -> None:
    with BackupLab.open(lab, lab.place.vm) as backups:
        backups.take()
        backups.begin()
        raise ZeroDivisionError


class TestLedger:
    """What a run that was killed has left is taken away by `clean`."""

    @pytest.fixture
    def ledger(self, tmp_path) -> Iterator[Ledger]:
        """A ledger that is open."""
        begun = Ledger.create(tmp_path / "ledger", driver=NAME, config=None)
        yield begun
        begun.close()

    def settings(self, cluster: HypervisorSimulator, place: HostSettings) -> SuiteSettings:
        """What a vendor would have configured."""
        texts = {name: str(getattr(place, name)) for name in ("host", "vm", "stopped_vm", "objects")}
        return SuiteSettings(
            driver=NAME, options={"url": cluster.url}, hypervisor=texts, test_pool=True, in_process=True
        )

    def test_a_backup_is_in_the_ledger_before_it_runs_and_goes_with_its_checkpoint(self, prepared, ledger):
        """Also when the backup was refused, and when it is cleaned twice."""
        cluster, place = prepared
        with lab_of(cluster, place) as lab:
            (device,) = lab.attached(place.vm, 1)
            recorder = Recorder(ledger=ledger)
            with closing(open_recorded_hypervisor(self.settings(cluster, place), recorder)) as driver:
                assert isinstance(driver, Backups)
                driver.begin_backup(place.vm, device, lab.call(), checkpoint="bct-1")
                with pytest.raises(NotFound):
                    driver.begin_backup("vm-9", device, lab.call(), checkpoint="bct-2")
            begun = [one for one in ledger.open_intents() if one.kind is Kind.BACKUP]
            assert begun == [
                Intent(kind=Kind.BACKUP, id="bct-2", scope=f"vm-9 {device}"),
                Intent(kind=Kind.BACKUP, id="bct-1", scope=f"{place.vm} {device}"),
            ]
            assert left(lab) == ["bct-1"]
            for intent in begun * 2:
                assert remove(intent, Place(hypervisor=lab.driver)) == ""
            assert left(lab) == []
            assert not list((Path(cluster.state) / "backups").glob("*"))

    def test_a_checkpoint_that_stays_is_told(self, tmp_path):
        """A delete that deletes nothing is a leak."""
        with prepared_cluster(tmp_path) as (cluster, place), lab_of(cluster, place) as lab:
            with BackupLab.open(lab, place.vm) as backups:
                kept = backups.take().checkpoint
                intent = Intent(kind=Kind.BACKUP, id=kept, scope=f"{place.vm} vdz")
                told = remove(intent, Place(hypervisor=_Forgetful(lab.driver)))
            assert f"checkpoint {kept} of VM {place.vm} is still told after a delete" in told


class _Forgetful(SimulatedHypervisorDriver):
    """Deletes no checkpoint."""

    def __init__(self, good: object) -> None:
        vars(self).update(vars(good))

    def delete_checkpoint(self, *_: object) -> None:
        """Say that it is done."""
