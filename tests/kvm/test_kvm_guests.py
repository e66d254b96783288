"""Power and guests: started, stopped, frozen, thawed; a frozen guest thaws whatever becomes of us."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bollard.core.spi import (
    Busy,
    DeadlineExceeded,
    GuestState,
    InvalidArgument,
    Outcome,
    Unavailable,
    VmState,
)
from kvm_driving import KvmRig, call, driver_for
from kvm_lab.polling import until

pytest_plugins = ["kvm_rig_fixture"]
pytestmark = pytest.mark.real(root=True)


def _watchers(rig: KvmRig) -> list[Path]:
    return list((rig.directory / "state").glob("*/frozen/*"))


def test_power_is_switched_and_repeatable(kvm_rig: KvmRig) -> None:
    """Start and stop bring the VM there, and do nothing where it is there already."""
    guest, (place,) = kvm_rig.guest_with(1)
    guest.shell(f"echo cached > {place}/file")
    for _ in range(2):
        kvm_rig.driver.stop_vm(guest.name, call())
    assert kvm_rig.driver.vm_state(guest.name, call()) is VmState.STOPPED
    for _ in range(2):
        kvm_rig.driver.start_vm(guest.name, call())
    guest.wait()
    serial = place.rsplit("/", 1)[1]
    assert guest.read_file(f"{guest.mounted(serial)}/file") == b"cached\n"
    for _ in range(2):
        kvm_rig.driver.stop_vm(guest.name, call(), force=True)
    assert kvm_rig.driver.vm_state(guest.name, call()) is VmState.STOPPED


def test_a_guest_that_does_not_stop_runs_on(kvm_rig: KvmRig) -> None:
    """A VM whose guest does not hear the power button runs on when the deadline has passed."""
    vm = kvm_rig.blank()
    with pytest.raises(DeadlineExceeded):
        kvm_rig.driver.stop_vm(vm.name, call(1))
    assert kvm_rig.driver.vm_state(vm.name, call()) is VmState.RUNNING


def test_freeze_stops_writes_until_the_thaw(kvm_rig: KvmRig) -> None:
    """While it is frozen the guest's file system takes no write; after the thaw the write comes through."""
    guest, (place,) = kvm_rig.guest_with(1)
    guest.shell(f"(while :; do date +%s%N > {place}/clock; sync; sleep 0.05; done) >/dev/null 2>&1 & true")
    until(
        lambda: guest.run("test", "-s", f"{place}/clock", check=False).returncode == 0,
        10,
        "the guest's clock",
    )
    kvm_rig.driver.freeze(guest.name, call())
    assert kvm_rig.driver.guest_state(guest.name, call()) is GuestState.FROZEN
    with pytest.raises(Busy):
        kvm_rig.driver.freeze(guest.name, call())
    kvm_rig.driver.thaw(guest.name, call())
    assert kvm_rig.driver.guest_state(guest.name, call()) is GuestState.THAWED
    before = guest.read_file(f"{place}/clock")
    until(lambda: guest.read_file(f"{place}/clock") != before, 60, "the guest to write again")
    kvm_rig.driver.thaw(guest.name, call())
    assert _watchers(kvm_rig) == []


def test_a_freeze_that_nobody_ends_is_over_in_time(kvm_rig: KvmRig) -> None:
    """The guest is thawed before the freeze's deadline, and says so; the watch is gone then."""
    guest, _ = kvm_rig.guest_with(1)
    started = time.monotonic()
    kvm_rig.driver.freeze(guest.name, call(3))
    until(lambda: kvm_rig.driver.guest_state(guest.name, call()) is GuestState.THAWED, 60, "the thaw")
    assert 1 < time.monotonic() - started < 5
    until(lambda: not _watchers(kvm_rig), 60, "the watch to end")
    kvm_rig.driver.thaw(guest.name, call())


_FREEZES_AND_DIES = """
import os, signal, sys
sys.path[:0] = {path!r}
from pathlib import Path
from kvm_driving import call, driver_for
class Host: name, uri = {name!r}, {uri!r}
driver_for(Path({directory!r}), Host).freeze({vm!r}, call(4))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_kill_9_of_the_freezer_does_not_keep_the_guest_frozen(kvm_rig: KvmRig) -> None:
    """A process that freezes and dies by kill -9 leaves a watch that thaws, also after libvirtd died."""
    guest, _ = kvm_rig.guest_with(1)
    code = _FREEZES_AND_DIES.format(
        path=[str(Path(__file__).parents[1] / "lib")],
        name=kvm_rig.host.name,
        uri=kvm_rig.host.uri,
        directory=str(kvm_rig.directory),
        vm=guest.name,
    )
    died = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert kvm_rig.driver.guest_state(guest.name, call()) is GuestState.FROZEN
    kvm_rig.host.kill_libvirtd()
    kvm_rig.host.start_libvirtd()
    until(lambda: _is_thawed(kvm_rig, guest.name), 30, "the thaw")
    until(lambda: not _watchers(kvm_rig), 30, "the watch to end")


def _is_thawed(rig: KvmRig, vm: str) -> bool:
    try:
        return rig.driver.guest_state(vm, call()) is GuestState.THAWED
    except Unavailable:  # libvirtd, just started, has not met the agent again
        return False


def test_another_process_can_thaw(kvm_rig: KvmRig) -> None:
    """Whoever thaws ends the watch, so that it cannot thaw a later freeze."""
    guest, _ = kvm_rig.guest_with(1)
    kvm_rig.driver.freeze(guest.name, call())
    (file,) = _watchers(kvm_rig)
    pid = int(file.read_text())
    another = driver_for(kvm_rig.directory, kvm_rig.host)
    another.thaw(guest.name, call())
    another.close()
    until(lambda: not Path(f"/proc/{pid}/fd").exists() or _is_zombie(pid), 60, "the watch to end")
    assert _watchers(kvm_rig) == []


def _is_zombie(pid: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True


def test_an_agent_that_is_dead_fails_the_freeze_at_once(kvm_rig: KvmRig) -> None:
    """Without an agent that answers nothing is frozen, and no watch is left."""
    guest, _ = kvm_rig.guest_with(1)
    # The shell that asks is a child of the agent, so it dies with it: the answer is lost.
    with pytest.raises(Exception, match=r"agent|Guest"):
        guest.shell("killall qemu-ga; sleep 1", seconds=5)
    with pytest.raises(Unavailable) as caught:
        kvm_rig.driver.freeze(guest.name, call(20))
    assert caught.value.outcome is Outcome.NOT_APPLIED
    assert _watchers(kvm_rig) == []


def test_only_a_running_guest_can_be_frozen(kvm_rig: KvmRig) -> None:
    """A VM that is off or paused is refused; to thaw it is fine."""
    vm = kvm_rig.blank()
    for _ in range(2):
        with pytest.raises(InvalidArgument):
            kvm_rig.driver.freeze(vm.name, call())
        vm.domain.destroy() if vm.domain.isActive() else None
    kvm_rig.driver.thaw(vm.name, call())
