"""VMs on a host: defined, started, asked through QMP, moved, removed."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu

from .domain_xml import Disk, device_name, domain_xml
from .host import Host, kill
from .polling import until

_FORGET_ALL = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
)
_MIGRATE = (
    libvirt.VIR_MIGRATE_LIVE
    | libvirt.VIR_MIGRATE_PERSIST_DEST
    | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
    | libvirt.VIR_MIGRATE_UNSAFE  # local files are shared here: both hosts are one machine
)


class Vm:
    """A persistent domain.

    Args:
        host: where it is now; `moved_to` tells when something else migrated it.
    """

    def __init__(self, host: Host, name: str) -> None:
        self.host = host
        self.name = name

    @classmethod
    def blank(cls, host: Host, directory: Path, disks: Sequence[Disk], name: str = "") -> Vm:
        """Start a paused VM without a guest (0.3 s, 37 MB): for what needs disks and QEMU alone."""
        name = name or new_name()
        console = directory / f"{name}.console"
        xml = domain_xml(name, disks, image=None, memory_mib=16, console=console)
        host.connection.defineXML(xml).createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
        return cls(host, name)

    @property
    def domain(self) -> libvirt.virDomain:
        """The domain, looked up anew: a handle does not survive its libvirtd."""
        return self.host.connection.lookupByName(self.name)

    @property
    def uuid(self) -> uuid.UUID:
        """The id that hosts know it by."""
        return uuid.UUID(self.domain.UUIDString())

    @property
    def state(self) -> int:
        """One of libvirt.VIR_DOMAIN_RUNNING, _PAUSED, _SHUTOFF, _CRASHED ..."""
        return int(self.domain.state()[0])

    def start(self) -> None:
        """Start it where it was stopped; of a guest, wait for the agent afterwards."""
        self.domain.create()

    def stop(self) -> None:
        """Cut its power; QEMU closes the images in order."""
        self.domain.destroy()

    def kill_qemu(self) -> None:
        """Kill -9 its QEMU and wait until libvirt has seen it."""
        pid = self.host.qemu_pid(self.name)
        assert pid, f"{self.name} does not run"
        kill(pid)
        until(lambda: not self.domain.isActive(), 30, f"libvirt to see that {self.name} died")

    def attach(self, disk: Disk) -> str:
        """Attach a disk, hot if it runs, for now and for later starts; returns the device name."""
        device = device_name(self.domain.XMLDesc().count("<disk "))
        flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG
        if self.domain.isActive():
            flags |= libvirt.VIR_DOMAIN_AFFECT_LIVE
        self.domain.attachDeviceFlags(disk.xml(device), flags)
        return device

    def migrate(self, to: Host) -> None:
        """Migrate it live, with its files where they are."""
        self.domain.migrate3(to.connection, {libvirt.VIR_MIGRATE_PARAM_URI: to.migrate_uri}, _MIGRATE)
        self.moved_to(to)

    def moved_to(self, host: Host) -> None:
        """Say that it was migrated."""
        self.host = host

    def qmp(self, command: str, **arguments: Any) -> Any:
        """Run a QMP command and return its answer."""
        question = json.dumps({"execute": command, "arguments": arguments})
        answer = json.loads(libvirt_qemu.qemuMonitorCommand(self.domain, question, 0))
        assert "error" not in answer, f"{command}: {answer}"
        return answer["return"]

    def write(self, disk: int, offset: int, length: int, pattern: int) -> None:
        """Write a byte pattern into the n-th disk as the guest would, so that bitmaps see it.

        QEMU tells nothing back through this command: what was written shows in the image.
        """
        device = f"/machine/peripheral/virtio-disk{disk}/virtio-backend"
        line = f'qemu-io -d {device} "write -P {pattern:#x} {offset} {length}"'
        self.qmp("human-monitor-command", **{"command-line": line})

    def remove(self) -> None:
        """Cut its power and let the host forget it; its images stay. Repeatable."""
        try:
            domain = self.domain
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise
            return
        if domain.isActive():
            domain.destroy()
        if domain.isPersistent():
            domain.undefineFlags(_FORGET_ALL)


def new_name() -> str:
    """Return a name that no VM has."""
    return f"vm-{uuid.uuid4().hex[:8]}"
