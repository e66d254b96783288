"""A volume as it was in a VM snapshot, as an image of its own: for a volume snapshot, template or volume.

    internal snapshot   qemu-img convert -l <snapshot> <image that the guest writes>
    as files            qemu-img convert <image of the member>, with all that it stands on

The VM is locked meanwhile, so that nobody merges or deletes what is read; it may run.

There is one volume snapshot at most per VM snapshot and volume. Its id is written down before the act and
holds the place until `release`; after a failure the place is free again, after a kill -9 the same id goes on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...transfer_objects.ids import SnapshotId, VmSnapshotId, VolumeId
from ..checks import check_id
from ..dataplane.durable import sync
from ..dataplane.os_errors import os_errors
from ..dataplane.qemu_img import run_qemu_img
from ..spi import Call, Conflict, InvalidArgument, NotFound, Outcome, Unsupported
from .chain import disks_of, live_image
from .machine import Machine
from .manager import VmSnapshotManager
from .members import Member, MemberKind
from .records import VmSnapshot
from .states import State


def extract(
    manager: VmSnapshotManager,
    snapshot: VmSnapshotId,
    volume: VolumeId,
    target: Path,
    call: Call,
    *,
    volume_snapshot: SnapshotId | None = None,
) -> None:
    """Write a volume, as it was in a VM snapshot, into a new qcow2 file that needs no other.

    Args:
        volume_snapshot: id of the volume snapshot that the file is for; None: it is for a template or volume.

    Raises:
        NotFound: there is no such snapshot, or the volume is not in it.
        InvalidArgument: the snapshot is not Ready.
        Unsupported: its storage keeps it: make the volume there.
        Conflict: `target` exists; the volume is no longer the VM's; or it has a volume snapshot already.
        DataLoss: the image no longer has it.
        Busy: a task of the VM is under way.
    """
    vm = manager.records.get(snapshot).spec.vm
    with manager.locks.task(vm):
        found = manager.records.get(snapshot)
        source = _source(found, volume, manager.machines.machine(vm), call)
        if os.path.lexists(target):
            raise Conflict(f"{target} exists: it is not overwritten")
        with _place_for(manager, found, volume, volume_snapshot):
            part = target.with_name(target.name + ".part")
            try:
                # -U: the guest may have the image open; what is read here no longer changes.
                command = ["convert", "-q", "-U", "-O", "qcow2", *source, str(part.absolute())]
                run_qemu_img(command, call, outcome=Outcome.NOT_APPLIED)
                _publish(part, target)
            finally:
                part.unlink(missing_ok=True)


def release(
    manager: VmSnapshotManager, snapshot: VmSnapshotId, volume: VolumeId, volume_snapshot: SnapshotId
) -> None:
    """The volume snapshot made of a VM snapshot is deleted: another one may be made. Repeatable."""
    found = manager.records.find(snapshot)
    made = [one.volume_snapshot for one in found.members if one.volume == volume] if found else []
    if made == [volume_snapshot]:
        manager.records.set_volume_snapshot(snapshot, volume, "")


@contextmanager
def _place_for(
    manager: VmSnapshotManager, snapshot: VmSnapshot, volume: VolumeId, wanted: SnapshotId | None
) -> Iterator[None]:
    """Hold the place of a volume's only volume snapshot; a failure gives it back, if it was free before."""
    if wanted is None:
        yield
        return
    check_id("volume_snapshot", wanted)
    made = _member(snapshot, volume).volume_snapshot
    if made not in ("", wanted):
        raise Conflict(
            f"volume snapshot {made} was made of volume {volume} in VM snapshot {snapshot.id}: "
            "delete it before another one is made"
        )
    manager.records.set_volume_snapshot(snapshot.id, volume, wanted)
    try:
        yield
    except BaseException:
        manager.records.set_volume_snapshot(snapshot.id, volume, made)
        raise


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


def _publish(part: Path, target: Path) -> None:
    """Give it its name when all of it is on the disk."""
    with os_errors(f"cannot give {part} the name {target.name}"):
        sync(part)
        part.rename(target)
        sync(target.parent)
