"""Guests: VMs that have booted, and that tests look into through the guest agent."""

from __future__ import annotations

import base64
import json
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu

from .domain_xml import Disk, domain_xml
from .guest_image import guest_image
from .host import Host
from .polling import until
from .saved import write_clone
from .vms import Vm, new_name

_PIECE = 48 * 1024  # bytes per call; the agent hangs for good when one call of 256 KiB arrives
_MEMORY = 128  # MiB; 112 boots, 96 does not


class Guest(Vm):
    """A VM with Linux in it.

    Each disk that has a file system is mounted in the guest at /mnt/<serial>, now and after each start.
    """

    def __init__(self, host: Host, name: str, console: Path) -> None:
        super().__init__(host, name)
        self.console = console

    def agent(self, command: str, **arguments: Any) -> Any:
        """Ask the guest agent; raises libvirt's error when it does not answer within 10 s."""
        question = json.dumps({"execute": f"guest-{command}", "arguments": arguments})
        return json.loads(libvirt_qemu.qemuAgentCommand(self.domain, question, 10, 0))["return"]

    def wait(self, seconds: float = 120) -> None:
        """Wait until the agent answers: after a start, a restore, a revert or a migration."""

        def answers() -> bool:
            try:
                libvirt_qemu.qemuAgentCommand(self.domain, '{"execute": "guest-ping"}', 2, 0)
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_AGENT_UNRESPONSIVE:
                    raise
                return False
            return True

        try:
            until(answers, seconds, f"the agent of {self.name}")
        except TimeoutError as error:
            raise TimeoutError(f"{error}; its console says: {self.console_text()}") from None

    def run(
        self, *command: str, stdin: bytes = b"", check: bool = True, seconds: float = 60
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a program in the guest, to its end; as subprocess.run with captured output."""
        # 32 MiB of output is where the agent cuts, 10 MiB of JSON where libvirt refuses: keep output small.
        started = self.agent(
            "exec",
            path=command[0],
            arg=list(command[1:]),
            **{"capture-output": True, "input-data": base64.b64encode(stdin).decode()},
        )

        def ended() -> Any:
            status = self.agent("exec-status", pid=started["pid"])
            return status if status["exited"] else None

        status = until(ended, seconds, f"{command} in {self.name}")
        done = subprocess.CompletedProcess(
            command,
            status.get("exitcode", -status.get("signal", 0)),
            base64.b64decode(status.get("out-data", "")),
            base64.b64decode(status.get("err-data", "")),
        )
        assert not check or done.returncode == 0, done
        return done

    def shell(self, script: str, seconds: float = 60) -> str:
        """Run a line of shell in the guest and return what it prints, without the last newline."""
        return self.run("sh", "-c", script, seconds=seconds).stdout.decode().rstrip("\n")

    def write_file(self, path: str, content: bytes) -> None:
        """Write a file and bring it to the disk (fsync); let the guest make large ones itself."""
        handle = self.agent("file-open", path=path, mode="w")
        for start in range(0, len(content), _PIECE):
            piece = base64.b64encode(content[start : start + _PIECE]).decode()
            self.agent("file-write", handle=handle, **{"buf-b64": piece})
        self.agent("file-close", handle=handle)
        self.run("dd", "if=/dev/null", f"of={path}", "conv=notrunc,fsync")

    def read_file(self, path: str) -> bytes:
        """Return the bytes of a file, of some megabytes at most."""
        return self.run("cat", path).stdout

    def sha256(self, path: str) -> str:
        """Return the checksum of a file, for those that are too large to be read."""
        return self.shell(f"sha256sum {path}").split()[0]

    def sync(self) -> None:
        """Bring all that the guest has written to its disks."""
        self.run("sync")

    def device_of(self, serial: str) -> str:
        """Return what the guest calls a disk ("vdb"), often not what libvirt calls it; "" if it has none."""
        return self.shell(f"cd /sys/block; grep -lx '{serial}' */serial | cut -d/ -f1; true")

    def size_of(self, serial: str) -> int:
        """Return the bytes that the guest sees of a disk."""
        return 512 * int(self.shell(f"cat /sys/block/{self.device_of(serial)}/size"))

    def mounted(self, serial: str, seconds: float = 20) -> str:
        """Wait until a disk is mounted and return where."""
        place = f"/mnt/{serial}"
        until(
            lambda: not self.run("grep", "-q", f" {place} ", "/proc/mounts", check=False).returncode,
            seconds,
            f"{self.name} to mount {place}",
        )
        return place

    def console_text(self) -> str:
        """Return what the guest has printed."""
        return self.console.read_text(errors="replace") if self.console.exists() else ""

    def shut_down(self, seconds: float = 30) -> None:
        """Ask the guest to shut down and wait until it has; its file systems are clean then."""
        try:
            self.domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT)
        except libvirt.libvirtError as error:
            # "End of file from agent socket": it was off before it had answered (seen once).
            if "agent socket" not in str(error):
                raise
        until(lambda: not self.domain.isActive(), seconds, f"{self.name} to shut down")


class Template:
    """A guest that was booted and saved once; clones of it are up in less than a second.

    Args:
        host: boots it; clones may live on every host of this machine.
        directory: gets the saved state (about 110 MB) and the consoles.
    """

    def __init__(self, host: Host, directory: Path) -> None:
        self._saved = directory / "template.save"
        guest = Guest(host, new_name(), directory / "template.console")
        xml = domain_xml(guest.name, [], image=guest_image(), memory_mib=_MEMORY, console=guest.console)
        host.connection.createXML(xml)
        guest.wait()
        # Takes a second, which each clone with an XFS would spend.
        guest.shell("insmod /lib/modules/libcrc32c.ko; insmod /lib/modules/xfs.ko")
        guest.domain.save(str(self._saved))

    def clone(self, host: Host, directory: Path, disks: Sequence[Disk], name: str = "") -> Guest:
        """Bring up a persistent guest with these disks attached and mounted."""
        name = name or new_name()
        guest = Guest(host, name, directory / f"{name}.console")
        clone = directory / f"{guest.name}.save"
        write_clone(self._saved, clone, guest.name, uuid.uuid4(), guest.console)
        try:
            host.connection.restore(str(clone))
        finally:
            clone.unlink()  # before the kernel writes its 110 MB to the disk
        host.connection.defineXML(guest.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        for disk in disks:
            guest.attach(disk)
        guest.wait()
        return guest
