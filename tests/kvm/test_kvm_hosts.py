"""Hosts, connections and options of the KVM driver."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import libvirt
import pytest

from bollard.core.spi import (
    Busy,
    Call,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    Outcome,
    Unavailable,
    VmState,
    parse_options,
)
from bollard.drivers.hypervisor.kvm import KvmDriver
from bollard.drivers.hypervisor.kvm.errors import translate
from bollard.transfer_objects.ids import VmSnapshotId
from kvm_driving import KvmRig, call, driver_for
from kvm_lab.host import Host

pytest_plugins = ["kvm_rig_fixture"]


@pytest.mark.parametrize("hosts", ["", "a", "A=qemu:///system", "a=qemu:///system a=test:///x", "a=nothing"])
def test_host_list_is_checked(hosts: str) -> None:
    """A list of hosts that is not ID=URI, or names one twice, is refused when the driver is made."""
    with pytest.raises(InvalidArgument, match="hosts"):
        KvmDriver(parse_options(KvmDriver.Options, {"hosts": hosts}))


def test_making_a_driver_opens_nothing() -> None:
    """A driver for a host that does not exist can be made and closed, twice; using it is Unavailable."""
    before = threading.active_count()
    driver = KvmDriver(parse_options(KvmDriver.Options, {"hosts": "a=qemu+unix:///system?socket=/nowhere"}))
    assert threading.active_count() == before
    assert driver.list_hosts(call()) == []
    with pytest.raises(Unavailable) as caught:
        driver.vm_state("vm-1", call())
    assert caught.value.outcome is Outcome.NOT_APPLIED
    driver.close()
    driver.close()
    assert threading.active_count() == before


def test_import_is_cheap() -> None:
    """Importing the driver takes less than 300 ms of the processor, libvirt included."""
    code = (
        "import bollard.core.spi, bollard.drivers.hypervisor, time; t = time.process_time(); "
        "import bollard.drivers.hypervisor.kvm; "
        "print(time.process_time() - t)"
    )
    command = [sys.executable, "-c", code]
    runs = [subprocess.run(command, capture_output=True, check=True) for _ in range(2)]
    seconds = min(float(run.stdout) for run in runs)
    assert seconds < 0.3


class _LibvirtError(libvirt.libvirtError):  # type: ignore[misc]  # libvirt ships no types
    def __init__(self, code: int, message: str, domain: int = libvirt.VIR_FROM_QEMU) -> None:
        self.err = (code, domain, message, 2, None, None, None, -1, -1)
        Exception.__init__(self, message)


@pytest.mark.parametrize(
    ("code", "message", "kind", "outcome"),
    [
        (libvirt.VIR_ERR_NO_DOMAIN, "Domain not found", "not_found", "not_applied"),
        (libvirt.VIR_ERR_OPERATION_TIMEOUT, "cannot acquire state change lock", "busy", "not_applied"),
        (libvirt.VIR_ERR_OPERATION_FAILED, "No space left on device", "out_of_capacity", "unknown"),
        (libvirt.VIR_ERR_INTERNAL_ERROR, 'Failed to get "write" lock', "in_use", "not_applied"),
        (libvirt.VIR_ERR_INTERNAL_ERROR, "Status: Target not found(515)", "not_found", "not_applied"),
        (libvirt.VIR_ERR_INTERNAL_ERROR, "failure(513)", "unauthenticated", "not_applied"),
        (libvirt.VIR_ERR_INTERNAL_ERROR, "iSCSI: Failed to connect to LUN", "unavailable", "not_applied"),
        (libvirt.VIR_ERR_INTERNAL_ERROR, "something new", "internal", "unknown"),
        (libvirt.VIR_ERR_CHECKPOINT_INCONSISTENT, "missing or broken bitmap", "not_found", "not_applied"),
    ],
)
def test_errors_are_translated(code: int, message: str, kind: str, outcome: str) -> None:
    """Libvirt's codes, and QEMU's words where they tell nothing, give the class and what was done."""
    error = translate(_LibvirtError(code, message), "trying")
    assert (error.code, error.outcome) == (kind, outcome)
    assert error.message == f"trying: {message}"


def test_a_long_message_keeps_its_end() -> None:
    """A QEMU that does not start says why behind its arguments."""
    error = translate(
        _LibvirtError(libvirt.VIR_ERR_INTERNAL_ERROR, f"-blockdev {'x' * 1000} no LUN"), "start"
    )
    assert error.message.startswith("start: -blockdev")
    assert error.message.endswith(" no LUN")
    assert len(error.message) < 320


def test_a_lost_connection_is_told_from_an_error_of_qemu() -> None:
    """The same code from the transport means that nobody knows what was done."""
    error = translate(_LibvirtError(libvirt.VIR_ERR_INTERNAL_ERROR, "closed", libvirt.VIR_FROM_RPC), "trying")
    assert isinstance(error, Unavailable)
    assert error.outcome is Outcome.UNKNOWN


@pytest.mark.real(root=True)
def test_hosts_are_listed_while_they_answer(kvm_rig: KvmRig, crashable_host: Host) -> None:
    """A host is listed as long as its libvirtd answers, and again after it came back."""
    driver = driver_for(kvm_rig.directory, kvm_rig.host, crashable_host)
    names = {kvm_rig.host.name, crashable_host.name}
    assert {host.id for host in driver.list_hosts(call())} == names
    crashable_host.crash()
    assert {host.id for host in driver.list_hosts(call())} == {kvm_rig.host.name}
    crashable_host.start()
    assert {host.id for host in driver.list_hosts(call())} == names
    driver.close()


@pytest.mark.real(root=True)
def test_a_vm_is_found_by_name_and_uuid(kvm_rig: KvmRig) -> None:
    """A VM's id is its libvirt name or its UUID; one that no host knows is not found."""
    vm = kvm_rig.blank()
    assert kvm_rig.driver.vm_state(vm.name, call()) is VmState.PAUSED
    assert kvm_rig.driver.vm_state(str(vm.uuid), call()) is VmState.PAUSED
    with pytest.raises(NotFound):
        kvm_rig.driver.vm_state("vm-nobody", call())
    with pytest.raises(InvalidArgument):
        kvm_rig.driver.vm_state("../x", call())


@pytest.mark.real(root=True)
def test_a_vm_is_not_missing_because_a_host_is_silent(kvm_rig: KvmRig, crashable_host: Host) -> None:
    """Where a host does not answer, a VM that the others do not know is Unavailable and not NotFound."""
    driver = driver_for(kvm_rig.directory, kvm_rig.host, crashable_host)
    crashable_host.crash()
    with pytest.raises(Unavailable):
        driver.vm_state("vm-nobody", call())
    driver.close()


@pytest.mark.real(root=True)
def test_the_driver_survives_a_restart_of_libvirtd(kvm_rig: KvmRig) -> None:
    """After kill -9 of libvirtd and its restart the same driver goes on, without an error in between."""
    vm = kvm_rig.blank()
    assert kvm_rig.driver.vm_state(vm.name, call()) is VmState.PAUSED
    kvm_rig.host.kill_libvirtd()
    kvm_rig.host.start_libvirtd()
    assert kvm_rig.driver.vm_state(vm.name, call()) is VmState.PAUSED


@pytest.mark.real(root=True)
def test_a_call_keeps_its_deadline_while_libvirt_waits(kvm_rig: KvmRig) -> None:
    """A call that libvirt holds for 30 s behind another job ends with its deadline, and on cancel at once."""
    vm = kvm_rig.blank()
    (disk,) = kvm_rig.disks(vm, 1)
    kvm_rig.driver.begin_backup(vm.name, "vda", call(), checkpoint="c1")
    with pytest.raises(Busy):
        kvm_rig.driver.detach(vm.name, kvm_rig.known[disk.object_id], call())
    with pytest.raises(Busy):
        kvm_rig.driver.create_vm_snapshot(vm.name, VmSnapshotId("s1"), call(), memory=True)
    machine, started = kvm_rig.driver._machine(vm.name, call()), time.monotonic()
    snapshot = "<domainsnapshot><name>s1</name></domainsnapshot>"
    with pytest.raises(DeadlineExceeded) as late:
        machine.act(call(1), lambda domain: domain.snapshotCreateXML(snapshot), "waiting")
    assert late.value.outcome is Outcome.UNKNOWN
    cancelled = Call.within(60)
    threading.Timer(0.3, cancelled.cancel.set).start()
    with pytest.raises(DeadlineExceeded):
        machine.act(cancelled, lambda domain: domain.snapshotCreateXML(snapshot), "waiting")
    assert time.monotonic() - started < 20
    kvm_rig.driver.end_backup(vm.name, "vda", call(), keep=False)


@pytest.mark.real(root=True)
def test_who_has_a_volume_is_told_of_all_hosts(kvm_rig: KvmRig, second_host: Host) -> None:
    """Running or stopped; if none has it, and a host does not answer, its VM may: that is no "nobody"."""
    vm = kvm_rig.blank()
    [disk] = kvm_rig.disks(vm, 1)
    told = f"a={kvm_rig.host.uri} gone=qemu+unix:///system?socket={kvm_rig.directory}/none"
    options = {"hosts": told, "state": kvm_rig.directory / "state", "scratch": kvm_rig.directory / "scratch"}
    both = driver_for(kvm_rig.directory, kvm_rig.host, second_host)
    partly = KvmDriver(parse_options(KvmDriver.Options, options))
    try:
        for driver in (kvm_rig.driver, both, partly):
            assert driver.vms_with(disk.object_id, call()) == [vm.name]
        vm.stop()
        assert both.vms_with(disk.object_id, call()) == [vm.name]
        assert both.vms_with("nobodys", call()) == []
        with pytest.raises(Unavailable):
            partly.vms_with("nobodys", call())
    finally:
        both.close()
        partly.close()
