"""Disks: attached hot and cold, shown, grown, let go."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest

from bollard.core.spi import (
    DeadlineExceeded,
    FileLocation,
    InvalidArgument,
    NbdLocation,
    NotFound,
    Outcome,
    Unsupported,
)
from bollard.transfer_objects.secret import Secret
from kvm_driving import MIB, KvmRig, call, device_in, path_of
from kvm_lab.polling import until

pytest_plugins = ["kvm_rig_fixture"]
pytestmark = pytest.mark.real(root=True)


@pytest.mark.parametrize("form", ["qcow2", "raw"])
def test_a_hot_plugged_disk_is_the_object(kvm_rig: KvmRig, form: str) -> None:
    """What a guest writes to a disk that was attached while it runs lands in the object; detach lets go."""
    guest = kvm_rig.guest()
    what = kvm_rig.volume(size=8 * MIB, format_=form)
    device = kvm_rig.attach(guest, what)
    assert kvm_rig.attach(guest, what) == device
    guest.shell(f"dd if=/etc/mke2fs.conf of=/dev/{device_in(guest, what)} conv=fsync")
    written = guest.read_file("/etc/mke2fs.conf")
    kvm_rig.driver.detach(guest.name, kvm_rig.known[what.object_id], call())
    assert guest.device_of(what.object_id) == ""
    raw = kvm_rig.directory / "copy"
    # Without -U: qemu-img takes the image's lock, so nobody holds it open any more.
    subprocess.run(["qemu-img", "convert", "-f", form, "-O", "raw", path_of(what), raw], check=True)
    assert raw.read_bytes().startswith(written)
    assert kvm_rig.driver.vm_disks(guest.name, call()) == []


def test_disks_are_attached_for_the_next_start_too(kvm_rig: KvmRig) -> None:
    """A disk that was attached hot is there after a power cut, and one that was detached hot is not."""
    guest = kvm_rig.guest()
    staying, leaving = kvm_rig.disks(guest)
    kvm_rig.driver.detach(guest.name, kvm_rig.known[leaving.object_id], call())
    kvm_rig.driver.detach(guest.name, kvm_rig.known[leaving.object_id], call())
    guest.stop()
    shown = kvm_rig.driver.vm_disks(guest.name, call())
    assert [disk.object_id for disk in shown] == [staying.object_id]


def test_a_half_attached_disk_is_completed(kvm_rig: KvmRig) -> None:
    """A disk that only the running VM has (libvirtd died in between) is added to its definition, too."""
    vm = kvm_rig.blank()
    (disk,) = kvm_rig.disks(vm, 1)
    vm.domain.detachDeviceFlags(_disk_xml(vm), 2)
    assert kvm_rig.attach(vm, disk) == "vda"
    vm.stop()
    assert [one.device for one in kvm_rig.driver.vm_disks(vm.name, call())] == ["vda"]


def _disk_xml(vm) -> str:
    text = vm.domain.XMLDesc(2)
    return text[text.index("<disk ") : text.index("</disk>") + len("</disk>")]


def test_a_guest_that_does_not_let_go_is_told(kvm_rig: KvmRig) -> None:
    """A VM whose guest cannot answer keeps its disk: the detach ends with its deadline, and says so."""
    vm = kvm_rig.blank()
    (disk,) = kvm_rig.disks(vm, 1)
    with pytest.raises(DeadlineExceeded) as caught:
        kvm_rig.driver.detach(vm.name, kvm_rig.known[disk.object_id], call(1))
    assert caught.value.outcome is Outcome.UNKNOWN
    assert len(kvm_rig.driver.vm_disks(vm.name, call())) == 1
    vm.stop()
    kvm_rig.driver.detach(vm.name, kvm_rig.known[disk.object_id], call())
    assert kvm_rig.driver.vm_disks(vm.name, call()) == []


def test_disks_are_shown_with_their_objects(kvm_rig: KvmRig) -> None:
    """Disks of a running and of a stopped VM are shown the same: device, object, image and size."""
    vm = kvm_rig.blank()
    first, second = kvm_rig.disks(vm)
    running = kvm_rig.driver.vm_disks(vm.name, call())
    vm.stop()
    assert kvm_rig.driver.vm_disks(vm.name, call()) == running
    assert [(disk.device, disk.object_id, disk.size) for disk in running] == [
        ("vda", first.object_id, 64 * MIB),
        ("vdb", second.object_id, 64 * MIB),
    ]
    assert [disk.location for disk in running] == [first.location, second.location]


def test_a_read_only_object_cannot_be_written(kvm_rig: KvmRig) -> None:
    """A snapshot that was introduced read-only is a disk that the guest cannot write to."""
    guest = kvm_rig.guest()
    what = kvm_rig.volume(size=MIB, format_="raw")
    what = dataclasses.replace(what, location=FileLocation(path=path_of(what), format="raw", read_only=True))
    kvm_rig.attach(guest, what)
    device = device_in(guest, what)
    assert guest.run("dd", "if=/bin/sh", f"of=/dev/{device}", "count=1", check=False).returncode
    assert guest.shell(f"cat /sys/block/{device}/ro") == "1"


@pytest.mark.parametrize("running", [True, False])
def test_a_grown_disk_is_seen_by_the_guest(kvm_rig: KvmRig, *, running: bool) -> None:
    """A running guest sees the new size at once, a stopped one at its next start."""
    guest = kvm_rig.guest()
    (disk,) = kvm_rig.disks(guest, 1)
    device_in(guest, disk)
    if not running:
        guest.stop()
    for _ in range(2):
        kvm_rig.driver.resize_disk(guest.name, "vda", 96 * MIB, call())
    if not running:
        guest.start()
        guest.wait()
    assert guest.size_of(disk.object_id) == 96 * MIB


@pytest.mark.parametrize("running", [True, False])
def test_a_disk_does_not_shrink(kvm_rig: KvmRig, *, running: bool) -> None:
    """A smaller size is refused and changes nothing: libvirt itself would cut the disk without a word."""
    vm = kvm_rig.blank()
    kvm_rig.disks(vm, 1)
    if not running:
        vm.stop()
    with pytest.raises(InvalidArgument, match="shrink"):
        kvm_rig.driver.resize_disk(vm.name, "vda", 32 * MIB, call())
    assert kvm_rig.driver.vm_disks(vm.name, call())[0].size == 64 * MIB
    with pytest.raises(NotFound):
        kvm_rig.driver.resize_disk(vm.name, "vdz", 128 * MIB, call())


@pytest.mark.parametrize("running", [True, False])
def test_a_disk_grows_after_a_kill_of_its_qemu(kvm_rig: KvmRig, *, running: bool) -> None:
    """The bitmap of a checkpoint that was lost with QEMU does not keep the disk from growing."""
    vm = kvm_rig.blank()
    kvm_rig.disks(vm, 1)
    kvm_rig.driver.begin_backup(vm.name, "vda", call(), checkpoint="c1")
    kvm_rig.driver.end_backup(vm.name, "vda", call(), keep=True)
    vm.stop()  # the bitmap goes to the image
    vm.domain.create()
    vm.kill_qemu()
    if running:
        vm.domain.create()
    kvm_rig.driver.resize_disk(vm.name, "vda", 128 * MIB, call())
    assert kvm_rig.driver.vm_disks(vm.name, call())[0].size == 128 * MIB
    assert kvm_rig.driver.checkpoints(vm.name, call()) == []


@pytest.mark.parametrize("transport", ["unix", "tcp"])
def test_an_nbd_export_is_a_disk(kvm_rig: KvmRig, transport: str, nbd_server) -> None:
    """An NBD export is attached hot, and what the guest writes lands behind it; it cannot grow here."""
    image = kvm_rig.volume(size=8 * MIB, format_="raw")
    address = nbd_server(path_of(image), transport)
    location = NbdLocation(address=address, export=Secret("serial-1:proof"))
    what = dataclasses.replace(image, location=location, identity="serial-1")
    with pytest.raises(Exception, match="finds 8388608 bytes") as caught:
        kvm_rig.driver.introduce(dataclasses.replace(what, size=MIB), call())
    with pytest.raises(Exception, match="not 'serial-2'") as other:
        kvm_rig.driver.introduce(dataclasses.replace(what, identity="serial-2"), call())
    assert "proof" not in f"{caught.value} {other.value}"
    guest = kvm_rig.guest()
    device = kvm_rig.attach(guest, what)
    assert "proof" not in kvm_rig.known[what.object_id].path
    guest.shell(f"dd if=/etc/mke2fs.conf of=/dev/{device_in(guest, what)} conv=fsync")
    assert path_of(image).read_bytes().startswith(guest.read_file("/etc/mke2fs.conf"))
    with pytest.raises(Unsupported):
        kvm_rig.driver.resize_disk(guest.name, device, 16 * MIB, call())
    (shown,) = kvm_rig.driver.vm_disks(guest.name, call())
    assert isinstance(shown.location, NbdLocation)
    assert (shown.location.address, shown.size) == (address, 8 * MIB)
    kvm_rig.driver.detach(guest.name, kvm_rig.known[what.object_id], call())


@pytest.fixture
def nbd_server(kvm_directory: Path):
    """Serve an image over NBD; returns the address."""
    servers = []

    def serve(image: Path, transport: str):
        socket = kvm_directory / "nbd.sock"
        pid = kvm_directory / "nbdkit.pid"
        where = ["--unix", socket] if transport == "unix" else ["--ipaddr", "127.0.0.1", "--port", "10967"]
        command = [
            "nbdkit",
            "--foreground",
            "--exportname",
            "serial-1:proof",
            "--pidfile",
            pid,
            *where,
            "file",
            image,
        ]
        servers.append(subprocess.Popen(command))
        until(pid.exists, 60, "nbdkit to start")
        return socket if transport == "unix" else ("127.0.0.1", 10967)

    yield serve
    for server in servers:
        server.kill()  # asked to end, it waits for its clients
        server.wait(10)
