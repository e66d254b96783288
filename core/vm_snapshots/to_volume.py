"""A volume as it was in a VM snapshot, as an image of its own: for a volume snapshot, template or volume.

    internal snapshot   qemu-img convert -l <snapshot> <image that the guest writes>
    as files            qemu-img convert <image of the member>, with all that it stands on

The VM is locked meanwhile, so that nobody merges or deletes what is read; it may run.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ...transfer_objects.ids import VmSnapshotId, VolumeId
from ..dataplane.os_errors import os_errors
from ..spi import (
    Call,
    Conflict,
    DataLoss,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    NotFound,
    Outcome,
    OutOfCapacity,
    Unsupported,
)
from .chain import disks_of, live_image
from .machine import Machine
from .manager import VmSnapshotManager
from .members import Member, MemberKind
from .records import VmSnapshot
from .states import State


def extract(
    manager: VmSnapshotManager, snapshot: VmSnapshotId, volume: VolumeId, target: Path, call: Call
) -> None:
    """Write a volume, as it was in a VM snapshot, into a new qcow2 file that needs no other.

    Raises:
        NotFound: there is no such snapshot, or the volume is not in it.
        InvalidArgument: the snapshot is not Ready.
        Unsupported: its storage keeps it: make the volume there.
        Conflict: `target` exists; or the volume is no longer the VM's.
        DataLoss: the image no longer has it.
        Busy: a task of the VM is under way.
    """
    vm = manager.records.get(snapshot).spec.vm
    with manager.locks.task(vm):
        found = manager.records.get(snapshot)
        source = _source(found, volume, manager.machines.machine(vm), call)
        if os.path.lexists(target):
            raise Conflict(f"{target} exists: it is not overwritten")
        part = target.with_name(target.name + ".part")
        try:
            _convert([*source, str(part)], f"volume {volume} of VM snapshot {snapshot}", call)
            _publish(part, target)
        finally:
            part.unlink(missing_ok=True)


def _source(snapshot: VmSnapshot, volume: VolumeId, machine: Machine, call: Call) -> list[str]:
    """Return what qemu-img is to read."""
    if snapshot.state is not State.READY:
        raise InvalidArgument(f"VM snapshot {snapshot.id} is {snapshot.state}, not Ready")
    member = _member(snapshot, volume)
    if member.kind is MemberKind.FILE and member.image is not None:
        return ["-f", member.image.format, str(member.image.path)]
    if member.kind is MemberKind.HYPERVISOR:
        image = live_image(machine, member.device, volume, disks_of(machine, call))
        if image.format == "qcow2":
            return ["-l", f"snapshot.name={snapshot.id}", "-f", "qcow2", str(image.path)]
    raise Unsupported(f"volume {volume} in VM snapshot {snapshot.id} is no qcow2 file: its storage keeps it")


def _member(snapshot: VmSnapshot, volume: VolumeId) -> Member:
    for member in snapshot.members:
        if member.volume == volume:
            return member
    raise NotFound(f"VM snapshot {snapshot.id} has no volume {volume}")


def _convert(arguments: Sequence[str], what: str, call: Call) -> None:
    # -U: the guest may have the image open; what is read here no longer changes.
    command = ["qemu-img", "convert", "-q", "-U", "-O", "qcow2", *arguments]
    try:
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            timeout=call.remaining(),
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError as error:
        raise Unsupported("qemu-img is not installed (Debian: apt install qemu-utils)") from error
    except subprocess.TimeoutExpired as error:
        raise DeadlineExceeded(f"{what} was not read in time", outcome=Outcome.NOT_APPLIED) from error
    except subprocess.CalledProcessError as error:
        raise _failed(error.stderr.strip()[-500:], what) from error


def _failed(said: str, what: str) -> DataLoss | OutOfCapacity | Internal:
    if "No space left" in said:
        return OutOfCapacity(f"there is no room for {what}: {said}")
    if "Failed to load snapshot" in said or "Can't find" in said:
        return DataLoss(f"{what} is gone from its image: {said}")
    return Internal(f"{what} cannot be read: {said}", outcome=Outcome.NOT_APPLIED)


def _publish(part: Path, target: Path) -> None:
    """Give it its name when all of it is on the disk."""
    with os_errors(f"cannot give {part} the name {target.name}"):
        _sync(part)
        part.rename(target)
        _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
