"""A VM without a guest, of whose disk each byte is known."""

from __future__ import annotations

import random
import subprocess

import libvirt

from bollard.core.snapshots import kvm
from bollard.transfer_objects.ids import SnapshotId
from kvm_driving import call
from kvm_lab import Host, Lab
from kvm_scenario import SMALL, Scenario


class Blank(Scenario):
    """A paused VM without a guest, whose disk's content is known.

    Attributes:
        content: what the disk holds; `kept`: what it held at each snapshot.
    """

    def __init__(self, lab: Lab, host: Host) -> None:
        super().__init__(lab, host, booted=False)
        self.settings.set("snapshot.delta.max", 100)
        self.content = bytearray(SMALL)
        self.kept: dict[str, bytes] = {}
        self._random = random.Random(1)  # noqa: S311 - a seed

    def change(self) -> None:
        """Write somewhere, as the guest would."""
        self.power(on=True)
        for _ in range(3):
            offset, pattern = self._random.randrange(SMALL // 65536) * 65536, self._random.randrange(1, 255)
            self.vm.write(0, offset, 65536, pattern)
            self.content[offset : offset + 65536] = bytes([pattern]) * 65536
        flush = 'qemu-io -d /machine/peripheral/virtio-disk0/virtio-backend "flush"'
        self.vm.qmp("human-monitor-command", **{"command-line": flush})  # what was not is lost with QEMU

    def make(self, snapshot: str) -> None:
        """Change something and take a snapshot."""
        self.change()
        self.remember(snapshot)
        kvm.take(self.site(), self.place(), SnapshotId(snapshot), call())

    def remember(self, snapshot: str) -> None:
        """Note what the disk holds."""
        self.kept[snapshot] = bytes(self.content)

    def power(self, *, on: bool) -> None:
        """Start it paused, or cut its power."""
        active = self.vm.domain.isActive()
        if on and not active:
            self.vm.domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
        if active and not on:
            self.driver.stop_vm(self.disk.vm, call(), force=True)

    def bytes_of(self, snapshot: str) -> bytes:
        """Restore a snapshot."""
        with kvm.opened(self.site(), SnapshotId(snapshot), call()) as source:
            found = bytearray(source.size)
            source.read_into(0, memoryview(found))
        return bytes(found)

    def volume(self) -> bytes:
        """What the disk of the stopped VM holds."""
        raw = self.directory / "volume.raw"
        command = ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(self.image), str(raw)]
        subprocess.run(command, check=True, timeout=60)
        return raw.read_bytes()

    def survivors(self) -> list[str]:
        """The snapshots that a user has; each restores bit-identically."""
        alive = [name for name, state in self.states().items() if state in ("CreatedOnPrimary", "BackedUp")]
        for name in alive:
            assert self.bytes_of(name) == self.kept[name], name
        return alive
