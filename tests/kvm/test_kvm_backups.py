"""Backups: one instant, what has changed since, and nothing left however they end."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace

import libvirt
import pytest

from bollard.core.dataplane import NbdClient, SocketEndpoint
from bollard.core.spi import (
    BackupDisk,
    Busy,
    ExtentKind,
    Introduction,
    InvalidArgument,
    NotFound,
    Outcome,
    OutOfCapacity,
    StorageError,
    Unsupported,
    VmState,
    parse_options,
)
from bollard.drivers.hypervisor.kvm import KvmDriver, versions
from kvm_driving import MIB, KvmRig, call, driver_for, path_of
from kvm_lab.host import Host
from kvm_lab.polling import until
from kvm_lab.vms import Vm

pytest_plugins = ["kvm_rig_fixture"]
pytestmark = pytest.mark.real(root=True)


def _read(backup: BackupDisk, offset: int) -> int:
    """Return the byte at an offset of what is served."""
    with closing(
        NbdClient(SocketEndpoint(backup.location.address, timeout=10), backup.location.export)
    ) as one:
        assert one.export.size == backup.location.size
        buffer = bytearray(512)
        one.read_into(offset, memoryview(buffer))
    return buffer[0]


def _changed(backup: BackupDisk) -> list[int]:
    """Return the megabytes that have changed since the base."""
    endpoint = SocketEndpoint(backup.location.address, timeout=10)
    export, context = backup.location.export, backup.bitmap.encode()
    with closing(NbdClient(endpoint, export, context=context)) as one:
        assert one.export.context is not None, "the server does not have this bitmap"
        extents, at = [], 0
        while at < one.export.size:
            for extent in one.block_status(at, one.export.size - at):
                at = extent.end
                if extent.kind is ExtentKind.DATA:
                    extents.append(extent)
    return [extent.offset // MIB for extent in extents]


def _vm(rig: KvmRig, *, running: bool = True) -> tuple[Vm, Introduction]:
    vm = rig.blank()
    vm.stop()
    (disk,) = rig.disks(vm, 1)
    if running:
        vm.domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
    return vm, disk


def _write(vm: Vm, disk: Introduction, at: int, pattern: int) -> None:
    if vm.domain.isActive():
        vm.write(0, at * MIB, 65536, pattern)
        return
    line = f"write -P {pattern:#x} {at * MIB} 64k"
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", line, path_of(disk)], check=True, capture_output=True)


def _bitmaps(disk: Introduction) -> list[str]:
    command = ["qemu-img", "info", "-U", "--output", "json", str(path_of(disk))]
    told = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return [one["name"] for one in told["format-specific"]["data"].get("bitmaps", [])]


def _left(rig: KvmRig) -> list[Path]:
    """Return what is left of backups: files, and records of what was begun."""
    files = [*(rig.directory / "scratch").iterdir(), *(rig.directory / "state").glob("*/backups/*")]
    return [path for path in files if path.is_file() or path.is_socket()]


def _turn(vm: Vm, *, running: bool) -> None:
    """Stop and start, or the reverse."""
    if running:
        vm.stop()
    vm.domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
    if not running:
        vm.stop()


@pytest.mark.parametrize("running", [True, False])
def test_a_chain_of_backups(kvm_rig: KvmRig, *, running: bool) -> None:
    """A full and two incrementals: each serves its instant, and tells what has changed since the last."""
    vm, disk = _vm(kvm_rig, running=running)
    driver = kvm_rig.driver
    _write(vm, disk, 1, 0x11)
    full = driver.begin_backup(vm.name, "vda", call(), checkpoint="c1")
    assert driver.begin_backup(vm.name, "vda", call(), checkpoint="c1") == full
    assert full.bitmap == ""
    if running:
        _write(vm, disk, 1, 0x99)
    assert _read(full, MIB) == 0x11
    for _ in range(2):
        driver.end_backup(vm.name, "vda", call(), keep=True)
    assert _left(kvm_rig) == []
    if not running:
        _write(vm, disk, 1, 0x99)
    second = driver.begin_backup(vm.name, "vda", call(), checkpoint="c2", since="c1")
    assert _changed(second) == [1]
    driver.end_backup(vm.name, "vda", call(), keep=True)
    _turn(vm, running=running)
    _write(vm, disk, 5, 0x55)
    third = driver.begin_backup(vm.name, "vda", call(), checkpoint="c3", since="c2")
    assert _changed(third) == [5]
    assert (_read(third, 5 * MIB), _read(third, MIB)) == (0x55, 0x99)
    driver.end_backup(vm.name, "vda", call(), keep=True)
    assert [one.name for one in driver.checkpoints(vm.name, call())] == ["c1", "c2", "c3"]
    for name in ("c2", "c1", "c3", "c3"):
        driver.delete_checkpoint(vm.name, "vda", name, call())
    assert driver.checkpoints(vm.name, call()) == []
    if running:
        vm.stop()
    assert _bitmaps(disk) == []


@pytest.mark.parametrize("running", [True, False])
def test_a_backup_that_is_not_kept_leaves_no_checkpoint(kvm_rig: KvmRig, *, running: bool) -> None:
    """A backup that was given up leaves neither checkpoint nor bitmap nor file."""
    vm, disk = _vm(kvm_rig, running=running)
    kvm_rig.driver.begin_backup(vm.name, "vda", call(), checkpoint="c1")
    for _ in range(2):
        kvm_rig.driver.end_backup(vm.name, "vda", call(), keep=False)
    assert kvm_rig.driver.checkpoints(vm.name, call()) == []
    if running:
        vm.stop()
    assert _bitmaps(disk) == []
    assert _left(kvm_rig) == []


def test_a_guest_writes_on_during_its_backup(kvm_rig: KvmRig) -> None:
    """A booted guest writes files while its disk is served, and the next incremental has exactly those."""
    guest, (place,) = kvm_rig.guest_with(1)
    guest.shell(f"echo before > {place}/a; sync")
    backup = kvm_rig.driver.begin_backup(guest.name, "vda", call(), checkpoint="c1")
    guest.shell(f"echo during > {place}/a; sync")
    copy = kvm_rig.directory / "copy.raw"
    url = f"nbd+unix:///vda?socket={backup.location.address}"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "raw", url, copy], check=True)
    kvm_rig.driver.end_backup(guest.name, "vda", call(), keep=True)
    subprocess.run(["e2fsck", "-fp", copy], check=False, capture_output=True)
    told = subprocess.run(["debugfs", "-R", "cat /a", copy], check=True, capture_output=True).stdout
    assert told == b"before\n"
    assert guest.read_file(f"{place}/a") == b"during\n"
    second = kvm_rig.driver.begin_backup(guest.name, "vda", call(), checkpoint="c2", since="c1")
    assert _changed(second)
    kvm_rig.driver.end_backup(guest.name, "vda", call(), keep=True)


@pytest.mark.parametrize("running", [True, False])
def test_another_process_reads_and_ends_a_backup(kvm_rig: KvmRig, *, running: bool) -> None:
    """What a process that has died began is served on, and ended by another that has only the names."""
    vm, disk = _vm(kvm_rig, running=running)
    _write(vm, disk, 1, 0x11)
    code = (
        f"import os, signal, sys; sys.path[:0] = [{str(Path(__file__).parents[1] / 'lib')!r}]\n"
        "from pathlib import Path\nfrom kvm_driving import call, driver_for\n"
        f"class Host: name, uri = {kvm_rig.host.name!r}, {kvm_rig.host.uri!r}\n"
        f"driver = driver_for(Path({str(kvm_rig.directory)!r}), Host)\n"
        f"driver.begin_backup({vm.name!r}, 'vda', call(), checkpoint='c1')\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    died = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert died.returncode == -9, died.stderr
    another = driver_for(kvm_rig.directory, kvm_rig.host)
    again = another.begin_backup(vm.name, "vda", call(), checkpoint="c1")
    assert _read(again, MIB) == 0x11
    with pytest.raises(Busy):
        another.begin_backup(vm.name, "vda", call(), checkpoint="c2")
    another.end_backup(vm.name, "vda", call(), keep=False)
    another.close()
    assert _left(kvm_rig) == []


def test_a_second_job_is_refused_at_once(kvm_rig: KvmRig) -> None:
    """While a disk is backed up another one of the same VM is Busy, without libvirt's 30 seconds."""
    vm = kvm_rig.blank()
    kvm_rig.disks(vm)
    kvm_rig.driver.begin_backup(vm.name, "vda", call(), checkpoint="c1")
    started = time.monotonic()
    with pytest.raises(Busy) as caught:
        kvm_rig.driver.begin_backup(vm.name, "vdb", call(), checkpoint="c2")
    assert time.monotonic() - started < 20
    assert caught.value.outcome is Outcome.NOT_APPLIED
    kvm_rig.driver.end_backup(vm.name, "vdb", call(), keep=True)
    kvm_rig.driver.end_backup(vm.name, "vda", call(), keep=True)
    kvm_rig.driver.begin_backup(vm.name, "vdb", call(), checkpoint="c2")
    kvm_rig.driver.end_backup(vm.name, "vdb", call(), keep=True)
    assert [one.device for one in kvm_rig.driver.checkpoints(vm.name, call())] == ["vda", "vdb"]


@pytest.mark.parametrize("restarted", [True, False])
def test_bitmaps_broken_by_kill_9_are_never_used(kvm_rig: KvmRig, *, restarted: bool) -> None:
    """After kill -9 of QEMU a checkpoint is not shown, used or restored; it can be removed; a full works."""
    vm, disk = _vm(kvm_rig)
    kvm_rig.driver.begin_backup(vm.name, "vda", call(), checkpoint="c1")
    kvm_rig.driver.end_backup(vm.name, "vda", call(), keep=True)
    vm.stop()
    vm.domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
    kvm_rig.driver.begin_backup(vm.name, "vda", call(), checkpoint="c2", since="c1")
    kvm_rig.driver.end_backup(vm.name, "vda", call(), keep=True)
    kept = kvm_rig.driver.checkpoints(vm.name, call())
    assert [one.name for one in kept] == ["c1", "c2"]
    vm.kill_qemu()
    if restarted:
        vm.domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
    assert kvm_rig.driver.checkpoints(vm.name, call()) == []
    for lost in ("c1", "c2"):
        with pytest.raises(NotFound) as caught:
            kvm_rig.driver.begin_backup(vm.name, "vda", call(), checkpoint="c3", since=lost)
        assert caught.value.outcome is Outcome.NOT_APPLIED
    assert kvm_rig.driver.restore_checkpoints(vm.name, kept, call()) == ["c1", "c2"]
    for name in ("c1", "c2"):
        kvm_rig.driver.delete_checkpoint(vm.name, "vda", name, call())
    assert vm.domain.listAllCheckpoints() == []
    _write(vm, disk, 3, 0x33)
    full = kvm_rig.driver.begin_backup(vm.name, "vda", call(), checkpoint="c1")
    assert _read(full, 3 * MIB) == 0x33
    kvm_rig.driver.end_backup(vm.name, "vda", call(), keep=True)
    assert [one.name for one in kvm_rig.driver.checkpoints(vm.name, call())] == ["c1"]


@pytest.mark.parametrize("killed", ["qemu", "libvirtd"])
def test_kill_9_during_a_backup(kvm_rig: KvmRig, killed: str) -> None:
    """A backup outlives kill -9 of libvirtd; after one of QEMU it is gone, and a repeat begins anew."""
    vm, disk = _vm(kvm_rig)
    _write(vm, disk, 1, 0x11)
    first = kvm_rig.driver.begin_backup(vm.name, "vda", call(), checkpoint="c1")
    if killed == "libvirtd":
        kvm_rig.host.kill_libvirtd()
        kvm_rig.host.start_libvirtd()
        _write(vm, disk, 1, 0x22)
    else:
        vm.kill_qemu()
        vm.domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
        _write(vm, disk, 1, 0x22)
    again = kvm_rig.driver.begin_backup(vm.name, "vda", call(), checkpoint="c1")
    assert again == first
    assert _read(again, MIB) == (0x11 if killed == "libvirtd" else 0x22)
    kvm_rig.driver.end_backup(vm.name, "vda", call(), keep=True)
    assert [one.name for one in kvm_rig.driver.checkpoints(vm.name, call())] == ["c1"]
    assert _left(kvm_rig) == []


def test_checkpoints_return_after_the_vm_was_defined_anew(kvm_rig: KvmRig) -> None:
    """What libvirt forgets with a definition is told it again, and the next incremental has what changed."""
    vm, disk = _vm(kvm_rig)
    for name, since in (("c1", None), ("c2", "c1")):
        kvm_rig.driver.begin_backup(vm.name, "vda", call(), checkpoint=name, since=since)
        kvm_rig.driver.end_backup(vm.name, "vda", call(), keep=True)
    kept = kvm_rig.driver.checkpoints(vm.name, call())
    xml = vm.domain.XMLDesc(2)
    vm.stop()
    vm.domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA)
    vm.host.connection.defineXML(xml).createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
    assert kvm_rig.driver.checkpoints(vm.name, call()) == []
    with pytest.raises(NotFound):
        kvm_rig.driver.begin_backup(vm.name, "vda", call(), checkpoint="c3", since="c2")
    # The parent of the second is left out: its own bitmap is all that it needs.
    assert kvm_rig.driver.restore_checkpoints(vm.name, kept[1:], call()) == []
    assert kvm_rig.driver.restore_checkpoints(vm.name, kept, call()) == []
    _write(vm, disk, 7, 0x77)
    backup = kvm_rig.driver.begin_backup(vm.name, "vda", call(), checkpoint="c3", since="c2")
    assert _changed(backup) == [7]
    kvm_rig.driver.end_backup(vm.name, "vda", call(), keep=False)


def test_too_little_scratch_space_is_refused_before(kvm_rig: KvmRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup whose scratch file could fill its directory, and so pause the guest, does not begin."""
    vm, disk = _vm(kvm_rig)
    _write(vm, disk, 1, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(OutOfCapacity) as caught:
        kvm_rig.driver.begin_backup(vm.name, "vda", call(), checkpoint="c1")
    assert caught.value.outcome is Outcome.NOT_APPLIED
    assert _left(kvm_rig) == []
    assert kvm_rig.driver.vm_state(vm.name, call()) is VmState.PAUSED


def test_what_cannot_hold_a_bitmap_is_unsupported(kvm_rig: KvmRig) -> None:
    """Raw disks and qcow2 of version 2 are refused, and so are names that are none."""
    vm = kvm_rig.blank()
    vm.stop()
    kvm_rig.attach(vm, kvm_rig.volume(size=MIB, format_="raw"))
    old = kvm_rig.volume(size=MIB)
    subprocess.run(["qemu-img", "amend", "-f", "qcow2", "-o", "compat=0.10", path_of(old)], check=True)
    kvm_rig.attach(vm, old)
    for device in ("vda", "vdb"):
        with pytest.raises(Unsupported, match="checkpoint"):
            kvm_rig.driver.begin_backup(vm.name, device, call(), checkpoint="c1")
    for name, since in (("C 1", None), ("c1", "c1"), ("c1", "../x")):
        with pytest.raises(InvalidArgument):
            kvm_rig.driver.begin_backup(vm.name, "vda", call(), checkpoint=name, since=since)
    with pytest.raises(NotFound):
        kvm_rig.driver.begin_backup(vm.name, "vdz", call(), checkpoint="c1")


def test_old_versions_are_told(kvm_rig: KvmRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too old a libvirt or QEMU: both versions found, both needed and the setting to turn off are named."""
    vm, _ = _vm(kvm_rig)
    monkeypatch.setattr(versions, "_QEMU", 99_001_000)
    with pytest.raises(Unsupported) as caught:
        kvm_rig.driver.begin_backup(vm.name, "vda", call(), checkpoint="c1")
    for word in ("libvirt 9.0.0", "QEMU 7.2", "libvirt 7.6.0", "QEMU 99.1.0", "kvm.incremental.snapshot"):
        assert word in caught.value.message
    assert vm.domain.listAllCheckpoints() == []


def test_a_backup_that_cannot_begin_leaves_nothing(kvm_rig: KvmRig) -> None:
    """Where libvirt refuses (a checkpoint of that name is there), all is as before, the checkpoint too."""
    vm, _ = _vm(kvm_rig)
    kvm_rig.driver.begin_backup(vm.name, "vda", call(), checkpoint="c1")
    kvm_rig.driver.end_backup(vm.name, "vda", call(), keep=True)
    with pytest.raises(StorageError) as caught:
        kvm_rig.driver.begin_backup(vm.name, "vda", call(), checkpoint="c1")
    assert caught.value.code == "conflict"
    assert [one.name for one in kvm_rig.driver.checkpoints(vm.name, call())] == ["c1"]
    assert _left(kvm_rig) == []


def test_a_guest_that_a_full_scratch_file_stopped_goes_on(
    kvm_rig: KvmRig, kvm_host: Host, kvm_directory: Path
) -> None:
    """Where the scratch directory runs full all the same, the guest stops, and goes on after the backup."""
    image = kvm_directory / "small.img"
    with image.open("xb") as file:
        file.truncate(64 * MIB)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", str(image)], check=True)
    scratch = kvm_directory / "small"
    scratch.mkdir()
    subprocess.run(["mount", "-o", "loop", image, scratch], check=True)
    try:
        _fill_the_scratch(kvm_rig, kvm_host, scratch)
    finally:
        subprocess.run(["umount", scratch], check=True)


def _fill_the_scratch(rig: KvmRig, host: Host, scratch: Path) -> None:
    options = {"hosts": f"{host.name}={host.uri}", "state": str(rig.directory / "state")}
    driver = KvmDriver(parse_options(KvmDriver.Options, options | {"scratch": str(scratch)}))
    guest, (place,) = rig.guest_with(1)
    guest.shell(f"dd if=/dev/urandom of={place}/a bs=1M count=16; sync")
    driver.begin_backup(guest.name, "vda", call(), checkpoint="c1")
    with (scratch / "filler").open("wb") as file, suppress(OSError):
        while True:
            file.write(bytes(MIB))
    rewrite = f"dd if=/dev/zero of={place}/a bs=1M conv=notrunc count=16 && sync && echo ok > /tmp/done"
    with suppress(libvirt.libvirtError):  # it may stop before its agent has answered
        guest.shell(f"({rewrite}) >/dev/null 2>&1 </dev/null &")
    until(lambda: driver.vm_state(guest.name, call()) is VmState.PAUSED, 60, "the guest to stop")
    driver.end_backup(guest.name, "vda", call(), keep=False)
    guest.wait()
    until(lambda: guest.shell("cat /tmp/done; true") == "ok", 60, "the guest's dd")
    driver.close()
