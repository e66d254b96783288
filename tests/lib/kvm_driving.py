"""What the tests of the KVM driver share: a driver on the lab's hosts, and volumes to give it.

The fixture `kvm_rig` is in `kvm_rig_fixture`: a test module takes it as `pytest_plugins`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bollard.core.spi import (
    Call,
    DiskFormat,
    FileLocation,
    Introduced,
    Introduction,
    ObjectKind,
    parse_options,
)
from bollard.drivers.hypervisor.kvm import KvmDriver
from bollard.transfer_objects.ids import HostId, VmId
from kvm_lab import disk_images
from kvm_lab.guests import Guest
from kvm_lab.host import Host
from kvm_lab.polling import until
from kvm_lab.vms import Vm

MIB = 1024 * 1024


def call(seconds: float = 60) -> Call:
    """Return a call that must end so many seconds from now."""
    return Call.within(seconds)


def driver_for(directory: Path, *hosts: Host) -> KvmDriver:
    """Return a driver for these hosts, with its state below `directory`; as another process would have it."""
    (directory / "scratch").mkdir(exist_ok=True)
    options = {
        "hosts": " ".join(f"{host.name}={host.uri}" for host in hosts),
        "state": str(directory / "state"),
        "scratch": str(directory / "scratch"),
        "migration": "tcp:127.0.0.1",
    }
    return KvmDriver(parse_options(KvmDriver.Options, options))


@dataclass
class KvmRig:
    """A driver, its hosts, and a directory for volumes."""

    driver: KvmDriver
    host: Host
    directory: Path
    guest: Callable[..., Guest]
    blank: Callable[..., Vm]
    known: dict[str, Introduced] = field(default_factory=dict)

    def volume(
        self, *, size: int = 64 * MIB, file_system: str = "", format_: DiskFormat = "qcow2"
    ) -> Introduction:
        """Make a volume and return its true introduction."""
        name = f"v-{uuid.uuid4().hex[:12]}"
        path = self.directory / f"{name}.{format_}"
        if format_ == "raw":
            with path.open("xb") as file:
                file.truncate(size)
        else:
            disk_images.qcow2(path, size, file_system)
        return self.introduction(name, path, size, format_)

    def introduction(self, name: str, path: Path, size: int, format_: DiskFormat = "qcow2") -> Introduction:
        """Return an introduction of a file."""
        return Introduction(
            kind=ObjectKind.VOLUME,
            object_id=name,
            host=HostId(self.host.name),
            location=FileLocation(path=path, format=format_),
            identity=str(path),
            size=size,
        )

    def attach(self, vm: Vm, what: Introduction) -> str:
        """Introduce and attach."""
        self.known[what.object_id] = self.driver.introduce(what, call())
        return self.driver.attach(VmId(vm.name), self.known[what.object_id], call())

    def disks(self, vm: Vm, count: int = 2, *, file_system: str = "") -> list[Introduction]:
        """Attach so many new volumes."""
        size = 64 * MIB
        made = [self.volume(size=size, file_system=file_system) for _ in range(count)]
        for one in made:
            self.attach(vm, one)
        return made

    def guest_with(self, count: int = 1) -> tuple[Guest, list[str]]:
        """Bring up a guest with so many file systems, and return where they are mounted."""
        guest = self.guest()
        volumes = self.disks(guest, count, file_system="ext4")
        return guest, [guest.mounted(one.object_id) for one in volumes]


def device_in(guest: Guest, what: Introduction) -> str:
    """Return what the guest calls a disk; it hears of one that was plugged in a moment later."""
    return until(lambda: guest.device_of(what.object_id), 20, f"{guest.name} to see {what.object_id}")


def path_of(what: Introduction) -> Path:
    """Return the file of a volume."""
    assert isinstance(what.location, FileLocation)
    return what.location.path
