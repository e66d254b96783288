"""Instant restore: QEMU boots a guest from an archived snapshot over NBD; nothing is restored first."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import libvirt
import pytest

from bollard.core.archive import Archive, CreateOptions
from bollard.core.dataplane import open_source
from bollard.core.spi import Call, FileLocation
from bollard.drivers.secondary.nfs import NfsDriver, NfsOptions
from kvm_lab import MIB, Disk, qcow2
from kvm_lab.guests import Guest
from kvm_lab.host import Host
from kvm_root_disk import define

pytestmark = [pytest.mark.real(root=True), pytest.mark.slow]  # two boots

_NBD_DISK = """\
<disk type='network' device='disk'>
  <driver name='qemu' type='raw' discard='unmap'/>
  <source protocol='nbd'><host transport='unix' socket='{socket}'/></source>
  <target dev='vda' bus='virtio'/>
</disk>"""


@contextmanager
def off_at_the_end(guest: Guest) -> Iterator[Guest]:
    """Remove the VM however the test ends."""
    try:
        yield guest
    finally:
        guest.remove()


def switch_off(guest: Guest) -> None:
    """Cut its power when its file system is whole on the disk, with nothing left in the journal."""
    guest.agent("fsfreeze-freeze")
    guest.stop()


@contextmanager
def serving(home: Path, path: Path, overlay: Path) -> Iterator[dict[str, Any]]:
    """`bollard archive serve vol-1 monday --cow`, until the block ends; it must end in order."""
    config = home / "bollard.toml"
    config.write_text(f"[stores.nightly]\ndriver = 'nfs'\noptions = {{ path = '{home}/store' }}\n")
    command = [
        sys.executable,
        "-m",
        "bollard",
        "--config",
        str(config),
        "archive",
        "serve",
        "vol-1",
        "monday",
    ]
    command += ["--socket", str(path), "--cow", str(overlay), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            yield json.loads("".join(iter(child.stdout.readline, "}\n")) + "}")
            child.send_signal(signal.SIGTERM)
            assert child.wait(60) == 0
        finally:
            child.kill()


def archived(host: Host, directory: Path, store: Path) -> None:
    """Install a guest on a disk, write a file, archive the disk; then the disk is gone."""
    image = qcow2(directory / "root.qcow2", 160 * MIB)
    with off_at_the_end(define(host, directory, "first")) as guest:
        guest.attach(Disk(image, "root"))
        guest.start()
        guest.wait()
        guest.write_file("/before", b"of monday")
        switch_off(guest)
    store.mkdir()
    driver = NfsDriver(NfsOptions(path=store))
    driver.open(Call())
    with open_source(FileLocation(path=image, format="qcow2", read_only=True)) as source:
        options = CreateOptions(window_size=16 * MIB, compression="auto")
        Archive(driver).create(source, Call(), volume="vol-1", snapshot="monday", options=options)
    driver.close()
    image.unlink()


def test_boots_from_the_archive(kvm_host: Host, kvm_directory: Path, tmp_path: Path):
    """The guest is up with its files, writes to the overlay alone, and the archive stays as it was."""
    archived(kvm_host, kvm_directory, tmp_path / "store")
    before = {path: path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()}
    overlay, copy = kvm_directory / "over.qcow2", tmp_path / "copy.raw"
    with serving(tmp_path, kvm_directory / "nbd.sock", overlay) as ready:
        with off_at_the_end(define(kvm_host, kvm_directory, "second")) as guest:
            disk = _NBD_DISK.format(socket=kvm_directory / "nbd.sock")
            guest.domain.attachDeviceFlags(disk, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
            guest.start()
            guest.wait()
            assert " / ext4 " in guest.read_file("/proc/mounts").decode()
            assert guest.read_file("/before") == b"of monday"
            guest.write_file("/after", b"of tuesday")
            switch_off(guest)
        subprocess.run(["nbdcopy", ready["uri"], str(copy)], check=True, timeout=60)
    shown = ["debugfs", "-R", "cat /after", str(copy)]
    assert subprocess.run(shown, capture_output=True, check=True, timeout=60).stdout == b"of tuesday"
    assert before == {path: path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()}
    stored = sum(len(data) for data in before.values())
    assert overlay.stat().st_blocks * 512 < stored / 2  # what it wrote, and no copy of what it read
