"""Two machines with one catalog: a command on the one, and a sync on the other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from bollard.core.commands import Dispatcher
from bollard.core.config import load_config
from bollard.core.service.recovery import open_services
from bollard.core.site import Site
from bollard.core.spi import Call
from bollard.core.vm_snapshots import Event, VmSnapshotSpec
from bollard.drivers.hypervisor.driver import SimulatedHypervisorDriver
from bollard.transfer_objects.commands import (
    Answer,
    CreateVMSnapshotCommand,
    DeleteDiskOnlyVmSnapshotCommand,
    DeleteVMSnapshotCommand,
    RevertToVMSnapshotCommand,
)
from bollard.transfer_objects.enums import VMSnapshotType
from bollard.transfer_objects.ids import VmId, VmSnapshotId
from bollard.transfer_objects.objects import VMSnapshotTO
from command_rig import RAW, snapshot, volume
from site_rig import toml_of

VM = VmId("vm-1")
SOON = 30.0


@pytest.fixture
def machine(rig, tmp_path, monkeypatch) -> Iterator[Callable[[str], Site]]:
    """Make a machine of a fleet: its own state, the catalog of all."""
    config = tmp_path / "bollard.toml"
    tables = {"catalog": {"url": f"sqlite:///{tmp_path}/catalog.db"}}
    config.write_text(rig.config.read_text() + "\n" + toml_of(tables))
    config.chmod(0o600)
    sites = []

    def make(name: str) -> Site:
        monkeypatch.setenv("BOLLARD_STATE", str(tmp_path / name))
        sites.append(Site(load_config(config)))
        sites[-1].mover()  # it has its state from now on
        return sites[-1]

    yield make
    for site in sites:
        site.close()


def _left_behind(site: Site) -> None:
    """A process of the machine died when it was about to take a snapshot of the VM."""
    with open_services(site) as services:
        records = services.vm_snapshots.records
        spec = VmSnapshotSpec(id=VmSnapshotId("dead"), vm=VM, name="dead")
        records.allocate(spec, "hypervisor", [], offering={}, work={})
        records.step(spec.id, Event.CREATE_REQUESTED)


def _synced(site: Site) -> str:
    with open_services(site) as services:
        [problem] = services.sync().run(Call.within(SOON)).problems()
    return problem.problem


def _order(site: Site, name: str) -> Answer:
    target = VMSnapshotTO(snapshot_name=name, snapshot_type=VMSnapshotType.DISK)
    return Dispatcher(site).execute(CreateVMSnapshotCommand(vm_name=VM, target=target))


def test_a_living_task_is_left_alone_by_another_machine(machine, monkeypatch):
    """While a command takes a snapshot of a VM, neither a sync nor a command elsewhere touches the VM."""
    begun, go_on = threading.Event(), threading.Event()
    real = SimulatedHypervisorDriver.create_vm_snapshot

    def held(*args, **kwargs):
        begun.set()
        assert go_on.wait(SOON)
        return real(*args, **kwargs)

    monkeypatch.setattr(SimulatedHypervisorDriver, "create_vm_snapshot", held)
    one = machine("one")
    _left_behind(one)
    with ThreadPoolExecutor(1) as threads:
        living = threads.submit(_order, one, "living")
        assert begun.wait(SOON)
        two = machine("two")
        told, refused = _synced(two), _order(two, "second")
        go_on.set()
        assert living.result(SOON).result
    assert told == "somebody works on vm vm-1 now"
    assert (refused.details or "").startswith("busy (not_applied)")
    # Its turn has come; nobody has told this catalog which host the VM is on.
    assert "no host" in _synced(two)
    assert _order(two, "second").result
    _tidy(two)


def _tidy(site: Site) -> None:
    for name in ("second", "living"):
        target = VMSnapshotTO(snapshot_name=name, snapshot_type=VMSnapshotType.DISK)
        assert Dispatcher(site).execute(DeleteVMSnapshotCommand(vm_name=VM, target=target)).result


@pytest.mark.parametrize("command", [DeleteVMSnapshotCommand, RevertToVMSnapshotCommand])
def test_other_tasks_of_the_vm_wait_as_well(machine, command):
    """A VM that another machine has in hand is not touched, whatever is to be done to its snapshots."""
    target = VMSnapshotTO(snapshot_name="kept", snapshot_type=VMSnapshotType.DISK)
    with open_services(machine("one")) as services, services.vm_snapshots.locks.task(VM):
        answer = Dispatcher(machine("two")).execute(command(vm_name=VM, target=target))
    assert (answer.result, answer.details) == (False, "busy (not_applied): somebody works on vm vm-1 now")


@pytest.mark.parametrize("says", ["snapshot", "volume"])
def test_files_of_a_vm_in_hand_are_not_deleted(machine, says):
    """Files of a disk-only snapshot stay while another machine has the VM in hand that they belong to."""
    of = volume("vol-1", RAW, vm_name=str(VM) if says == "volume" else None)
    gone = snapshot(1, of, path="gone", vm_name=str(VM) if says == "snapshot" else None)
    with open_services(machine("one")) as services, services.vm_snapshots.locks.task(VM):
        answer = Dispatcher(machine("two")).execute(DeleteDiskOnlyVmSnapshotCommand(snapshots=(gone,)))
    assert (answer.result, answer.details) == (False, "busy (not_applied): somebody works on vm vm-1 now")
