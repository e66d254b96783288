"""A guest that writes the pattern of `bollard.simulators.hypervisor.pattern` to all its disks but one."""

from __future__ import annotations

import subprocess
from pathlib import Path

from kvm_driving import KvmRig, device_in
from kvm_lab.guests import Guest

_WRITER = Path(__file__).with_name("kvm_writer.c")


def writing_guest(rig: KvmRig) -> Guest:
    """Bring one up; its first disk has a file system, whose freeze stops the writer."""
    guest = rig.guest()
    (disk,) = rig.disks(guest, 1, file_system="ext4")
    place = guest.mounted(disk.object_id)
    program = rig.directory / "writer"
    subprocess.run(["gcc", "-Os", "-s", "-o", program, _WRITER], check=True)
    guest.write_file("/tmp/writer", program.read_bytes())  # noqa: S108 - the guest's own /tmp
    device = device_in(guest, disk)
    guest.shell(f"chmod +x /tmp/writer; /tmp/writer {place}/held {device} >/dev/null 2>&1 </dev/null &")
    return guest
