"""The lab itself: hosts that crash and come back, guests that are what they seem."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import libvirt
import pytest

from kvm_lab import MIB, Disk, kill, qcow2, until
from qcow2_rig import qemu_io

pytestmark = pytest.mark.real(root=True)


@pytest.fixture
def disk(kvm_directory) -> Disk:
    """A disk with an empty ext4, mounted in a guest at /mnt/data."""
    return Disk(qcow2(kvm_directory / "data.qcow2"), "data")


def is_alive(pid: int) -> bool:
    """Tell whether a process exists."""
    return Path(f"/proc/{pid}").exists()


def test_guest_finds_disks_by_serial(guest, disk, kvm_directory):
    """A guest mounts each disk at /mnt/<serial>, whatever device that is and whichever file system."""
    xfs = Disk(qcow2(kvm_directory / "xfs.qcow2", 400 * MIB, "xfs"), "xfs")
    blank = Disk(qcow2(kvm_directory / "blank.qcow2", 8 * MIB, ""), "blank")

    vm = guest(xfs, disk, blank)

    assert [vm.mounted("xfs"), vm.mounted("data")] == ["/mnt/xfs", "/mnt/data"]
    until(lambda: vm.device_of("blank"), 60, "the blank disk")
    assert [vm.size_of(serial) for serial in ("xfs", "data", "blank")] == [400 * MIB, 256 * MIB, 8 * MIB]
    assert vm.device_of("none") == ""


@pytest.mark.slow  # boots, which a clone does not
def test_files_survive_a_power_cut(guest, disk):
    """What was written and synced in a guest is there when its power was cut and it was started again."""
    vm = guest(disk)
    content = bytes(range(256)) * 500
    vm.write_file(f"{vm.mounted('data')}/a", content)
    vm.shell("dd if=/dev/urandom of=/mnt/data/b bs=64k count=4")
    digest = vm.sha256("/mnt/data/b")
    vm.sync()

    vm.stop()
    vm.start()
    vm.wait()

    assert vm.mounted("data")
    assert vm.read_file("/mnt/data/a") == content
    assert vm.sha256("/mnt/data/b") == digest


def test_clones_are_strangers(guest, kvm_directory):
    """Guests of one template have their own names, ids and disks, and run side by side."""
    one, two = (guest(Disk(qcow2(kvm_directory / name), "data"), name=name) for name in ("one", "two"))
    for vm in (one, two):
        vm.write_file(f"{vm.mounted('data')}/name", vm.name.encode())

    assert [vm.read_file("/mnt/data/name") for vm in (one, two)] == [b"one", b"two"]
    assert one.uuid != two.uuid
    assert one.host.qemu_pid("one") != two.host.qemu_pid("two")


def test_programs_in_the_guest_tell_how_they_ended(guest):
    """A program that fails in the guest shows code, output and error, and fails the test unless allowed."""
    vm = guest()

    done = vm.run("sh", "-c", "cat; echo oops >&2; exit 7", stdin=b"in", check=False)

    assert (done.returncode, done.stdout, done.stderr) == (7, b"in", b"oops\n")
    with pytest.raises(AssertionError, match="returncode=1"):
        vm.run("false")


def test_frozen_guest_runs_nothing(guest, disk):
    """The agent freezes the file systems, refuses to run programs meanwhile, and thaws them."""
    vm = guest(disk)
    vm.mounted("data")

    assert vm.agent("fsfreeze-freeze") == 1
    with pytest.raises(libvirt.libvirtError, match="frozen"):
        vm.run("true")
    assert vm.agent("fsfreeze-thaw") == 1
    assert vm.run("true").returncode == 0


@pytest.mark.slow  # boots, which a clone does not
def test_disk_is_attached_hot_and_cold(guest, disk, kvm_directory):
    """A disk attached to a stopped VM is there after its start, beside those that were plugged before."""
    vm = guest(disk)
    vm.mounted("data")
    vm.shut_down()

    assert vm.attach(Disk(qcow2(kvm_directory / "cold.qcow2"), "cold")) == "vdb"
    vm.start()
    vm.wait()

    assert [vm.mounted("data"), vm.mounted("cold")] == ["/mnt/data", "/mnt/cold"]
    assert "GUEST-READY" in vm.console_text()


def test_full_file_system_pauses_the_vm(guest, kvm_lab):
    """A disk whose file system on the host runs full pauses its guest."""
    small = kvm_lab.new_directory(size=16 * MIB)
    vm = guest(Disk(qcow2(small / "a.qcow2", 64 * MIB), "data", error_policy="enospace"))
    place = vm.mounted("data")

    vm.agent("exec", path="dd", arg=["if=/dev/urandom", f"of={place}/a", "bs=1M", "count=32", "conv=fsync"])

    until(lambda: vm.state == libvirt.VIR_DOMAIN_PAUSED, 60, "the pause")
    assert shutil.disk_usage(small).total < 16 * MIB


def test_write_lands_in_the_image(blank_vm, disk):
    """A pattern written through QEMU into a VM without a guest is in the image at that place."""
    vm = blank_vm(disk)

    vm.write(0, 8 * MIB, MIB, 0x5A)

    vm.stop()
    qemu_io(disk.path, "qcow2", "read -P 0x5a 8M 1M", "read -P 0 9M 1M")


def test_libvirtd_dies_alone(blank_vm, kvm_host, disk):
    """A VM outlives its libvirtd, and the next libvirtd knows it."""
    vm = blank_vm(disk)
    pid = kvm_host.qemu_pid(vm.name)

    kvm_host.kill_libvirtd()
    with pytest.raises(libvirt.libvirtError):
        kvm_host.connect()
    assert kvm_host.qemu_pid(vm.name) == pid
    kvm_host.start_libvirtd()

    assert vm.state == libvirt.VIR_DOMAIN_PAUSED


def test_qemu_dies_alone(blank_vm, kvm_host, disk):
    """A VM whose QEMU was killed is off, and can be started."""
    vm = blank_vm(disk)

    vm.kill_qemu()

    assert vm.state == libvirt.VIR_DOMAIN_SHUTOFF
    assert not kvm_host.qemu_pid(vm.name)
    vm.start()
    assert vm.state == libvirt.VIR_DOMAIN_RUNNING


def test_host_crashes_with_all_on_it(blank_vm, crashable_host, disk):
    """A crash kills libvirtd and QEMU at once; the host comes back with the VM known and off."""
    vm = blank_vm(disk, host=crashable_host)
    pid = crashable_host.qemu_pid(vm.name)

    crashable_host.crash()
    assert not is_alive(pid)
    crashable_host.start()

    assert vm.state == libvirt.VIR_DOMAIN_SHUTOFF


def test_guest_migrates_live(guest, second_host, disk):
    """A running guest moves to another host with the files it has open, and is gone from where it was."""
    vm = guest(disk)
    vm.write_file(f"{vm.mounted('data')}/a", b"before")
    source = vm.host

    vm.migrate(second_host)
    vm.wait()

    assert vm.read_file("/mnt/data/a") == b"before"
    assert second_host.qemu_pid(vm.name)
    assert not source.qemu_pid(vm.name)
    assert source.connection.listAllDomains() == []


_SESSION = """
import sys
from kvm_lab import MIB, Disk, Lab, Vm, qcow2
with Lab() as lab:
    small = lab.new_directory(size=16 * MIB)
    host = lab.host("a")
    vm = Vm.blank(host, small, [Disk(qcow2(small / "a.qcow2", 8 * MIB), "a")])
    print(lab.directory, host.qemu_pid(vm.name), flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def session(kvm_python):
    """A lab in another process, with a VM on a small file system: that process, its directory, QEMU's pid."""
    process = subprocess.Popen(
        [*kvm_python, "-c", _SESSION], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin
    assert process.stdout
    with process:
        directory, pid = process.stdout.readline().split()
        yield process, Path(directory), int(pid)
        process.kill()


def test_session_leaves_nothing(session):
    """When a session ends, so do its QEMUs; mounts, loop devices and files are gone."""
    process, directory, qemu = session
    assert str(directory) in loop_devices()

    process.communicate(timeout=60)

    assert process.returncode == 0
    assert not is_alive(qemu)
    assert not directory.exists()
    assert str(directory) not in Path("/proc/mounts").read_text() + loop_devices()


def test_next_session_sweeps_after_a_killed_one(session, kvm_python):
    """The hosts of a session die with it even under kill -9, and the next session removes what they left."""
    process, directory, qemu = session

    kill(process.pid)
    until(lambda: not is_alive(qemu), 60, "the death of its QEMU")
    subprocess.run([*kvm_python, "-c", "from kvm_lab import Lab\nwith Lab(): pass"], check=True, timeout=60)

    assert not directory.exists()
    assert str(directory) not in Path("/proc/mounts").read_text() + loop_devices()


def loop_devices() -> str:
    """Return all loop devices with their files."""
    return subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=True, timeout=20).stdout
