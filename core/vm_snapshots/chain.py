"""Chains of images: which file a snapshot is, and what happens to files when it goes.

    base <── o1 <── o2 <── guest      snapshot a is the image base, b is o1: an image holds its instant,
     a       b                        the next one above it what came after

Deleting a snapshot on which d images stand (its children's, and the guest's if it is current):

    d = 0   the file goes
    d = 1   what stands on it is merged into it; that snapshot's bytes are in this file then
    d > 1   nothing: it is hidden, until a later deletion leaves it with one

A revert puts the guest on a new overlay above the target's image; what it wrote to before goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ...transfer_objects.ids import VmSnapshotId, VolumeId, new_id
from ..dataplane.os_errors import os_errors
from ..spi import (
    Call,
    Conflict,
    FileLocation,
    Internal,
    NotFound,
    Overlays,
    ShowsDisks,
    VmDisk,
)
from ..steps import step
from .machine import Machine
from .members import Member, MemberKind
from .records import VmSnapshot
from .strategy import Job

Images = Mapping[str, FileLocation]  # by device
Remove = Callable[[Path], None]


def remove_file(path: Path) -> None:
    """Remove an image from a pool that is mounted here; fine if it is gone."""
    with os_errors(f"cannot remove the image {path}"):
        path.unlink(missing_ok=True)


def disks_of(machine: Machine, call: Call) -> dict[str, VmDisk]:
    """Return the VM's disks by device, as the hypervisor has them now."""
    driver = machine.hypervisor.require(ShowsDisks)
    shown = machine.hypervisor.run("vm.disks", lambda c: driver.vm_disks(machine.vm, c), step(call))
    return {disk.device: disk for disk in shown}


def live_image(machine: Machine, device: str, volume: VolumeId, disks: Mapping[str, VmDisk]) -> FileLocation:
    """Return the file that the guest writes a volume to.

    Raises:
        NotFound: the VM has no such device.
        Conflict: the device is another volume, or no file.
    """
    disk = disks.get(device)
    if disk is None:
        raise NotFound(f"VM {machine.vm} has no device {device}")
    if disk.object_id not in ("", volume) or not isinstance(disk.location, FileLocation):
        raise Conflict(f"device {device} of VM {machine.vm} is not a file of volume {volume}")
    return disk.location


class Chain:
    """The images of one snapshot, by device.

    Args:
        remove: how an image file is removed.
    """

    def __init__(self, job: Job, remove: Remove = remove_file) -> None:
        self._job = job
        self._machine = job.machine
        self._members = {m.device: m for m in job.snapshot.members if m.kind is MemberKind.FILE}
        self._remove = remove

    # -- taking ---------------------------------------------------------------------------------------

    @staticmethod
    def plan_take(
        machine: Machine, snapshot: VmSnapshotId, devices: Mapping[str, VolumeId], form: str, call: Call
    ) -> tuple[list[Member], dict[str, Any]]:
        """Return the members, which are what the guest writes to now, and the overlays to put above."""
        disks, members, overlays = disks_of(machine, call), [], {}
        pools = {volume.device: volume.pool.name for volume in machine.volumes}
        for device, volume in devices.items():
            image = live_image(machine, device, volume, disks)
            members.append(
                Member(device=device, volume=volume, kind=MemberKind.FILE, pool=pools[device], image=image)
            )
            overlays[device] = _overlay(image, volume, snapshot, form)
        return members, {"overlays": overlays}

    def cut(self, call: Call, *, quiesce: bool) -> None:
        """Put the guest on overlays, all at one instant."""
        driver, overlays = self._overlays(), self._planned("overlays")
        self._run("overlay.add", lambda c: driver.add_overlays(self._vm, overlays, c, quiesce=quiesce), call)

    def is_cut(self) -> bool:
        """Tell whether the guest is on the planned overlays, with every disk."""
        live = self._live()
        return all(live[device].path == one.path for device, one in self._planned("overlays").items())

    def uncut(self) -> None:
        """Bring the guest back to where it wrote before a cut, with what it wrote since."""
        live = self._live()
        for device, overlay in self._planned("overlays").items():
            if live[device].path == overlay.path:
                self._merge(device, overlay, self._image(device), ())
            self._drop(device, overlay.path)

    # -- reverting ------------------------------------------------------------------------------------

    def plan_revert(self, form: str) -> dict[str, Any]:
        """Return the new overlays, and what they replace."""
        live, token = self._live(), new_id("r")[:10]
        return {
            "overlays": {
                device: _overlay(self._image(device), member.volume, f"{self._job.snapshot.id}.{token}", form)
                for device, member in self._members.items()
            },
            "replaced": {device: _json(live[device]) for device in self._members},
        }

    def revert(self) -> None:
        """Put the stopped VM on new overlays above this snapshot's images; repeatable."""
        driver, overlays = self._overlays(), self._planned("overlays")
        bases = {device: self._image(device) for device in overlays}
        self.drop_unused()
        self._run(
            "overlay.switch",
            lambda c: driver.switch_images(self._vm, overlays, bases, c),
            self._job.call,
        )
        for device, old in self._planned("replaced").items():
            self._drop(device, old.path)

    def drop_unused(self) -> None:
        """Remove planned overlays that a kill left before the guest was put on them."""
        live = self._live()
        for device, overlay in self._planned("overlays").items():
            if live[device].path != overlay.path:
                self._drop(device, overlay.path)

    # -- deleting -------------------------------------------------------------------------------------

    def plan_delete(self) -> dict[str, Any]:
        """Return what goes, or what is merged into this snapshot's images; nothing if it stays hidden."""
        snapshot, tree = self._job.snapshot, self._job.records.tree(self._vm)
        if not snapshot.taken:
            return {}  # its "image" is what the guest writes to
        if tree.dependents(snapshot.id) == 0:
            return {"leaf": True}
        if tree.dependents(snapshot.id) > 1:
            return {"hide": True}
        if snapshot.current:
            live = self._live()
            return {"merge": {device: {"top": _json(live[device])} for device in self._members}}
        child = self._job.records.get(tree.children(snapshot.id)[0].id)
        return {"child": child.id, "merge": {d: self._merge_plan(d, child) for d in self._members}}

    def _merge_plan(self, device: str, child: VmSnapshot) -> dict[str, Any]:
        """Return the child's image and those off the VM's own chain that stand on it."""
        tree = self._job.records.tree(self._vm)
        line = self._line_of_current()
        side = [self._job.records.get(n.id) for n in tree.children(child.id) if n.id not in line]
        return {
            "top": _json(_member_image(child, device)),
            "dependents": [_json(_member_image(one, device)) for one in side],
        }

    def _line_of_current(self) -> set[VmSnapshotId]:
        tree = self._job.records.tree(self._vm)
        line: set[VmSnapshotId] = set()
        node = tree.current()
        while node is not None:
            line.add(node.id)
            node = tree[node.parent] if node.parent is not None else None
        return line

    def delete(self) -> bool:
        """Carry out the plan; repeatable. False: it stays, hidden."""
        work = self._job.snapshot.work
        if work.get("hide"):
            return False
        if work.get("leaf"):
            for device in self._members:
                self._drop(device, self._image(device).path)
        for device, todo in work.get("merge", {}).items():
            base, top = self._image(device), _location(todo["top"])
            if top.path == base.path:  # merged and recorded before a kill
                continue
            self._merge(device, top, base, [_location(one) for one in todo.get("dependents", ())])
            if "child" in work:
                self._job.records.moved(VmSnapshotId(work["child"]), device, base)
            self._drop(device, top.path)
        return True

    # -- helpers --------------------------------------------------------------------------------------

    @property
    def _vm(self) -> Any:
        return self._machine.vm

    def _overlays(self) -> Overlays:
        return self._machine.hypervisor.require(Overlays)

    def _run(self, operation: str, act: Callable[[Call], None], call: Call) -> None:
        self._machine.hypervisor.run(operation, act, step(call))

    def _merge(
        self, device: str, top: FileLocation, base: FileLocation, dependents: Iterable[FileLocation]
    ) -> None:
        driver, others = self._overlays(), tuple(dependents)
        self._run(
            "overlay.merge",
            lambda c: driver.merge_image(self._vm, device, top, base, c, dependents=others),
            self._job.call,
        )

    def _planned(self, what: str) -> Images:
        return {device: _location(one) for device, one in self._job.snapshot.work.get(what, {}).items()}

    def _image(self, device: str) -> FileLocation:
        image = self._members[device].image
        if image is None:
            raise Internal(f"the record of {self._job.snapshot.id} names no image for {device}")
        return image

    def _live(self) -> Images:
        disks = disks_of(self._machine, self._job.call)
        return {
            device: live_image(self._machine, device, member.volume, disks)
            for device, member in self._members.items()
        }

    def _drop(self, device: str, path: Path) -> None:
        """Remove an image that we made. A volume's own file never is one: without it all is lost."""
        volume = self._members[device].volume
        if not path.name.startswith(f"{volume}.") or ".vms" not in path.name:
            raise Internal(f"{path} is not an overlay of volume {volume}; it stays")
        self._remove(path)


def _overlay(image: FileLocation, volume: VolumeId, name: str, form: str) -> dict[str, str]:
    """Return the overlay's place beside the image; its name says whose it is."""
    return {"path": str(image.path.with_name(f"{volume}.{name}.vms.{form}")), "format": form}


def _member_image(snapshot: VmSnapshot, device: str) -> FileLocation:
    for member in snapshot.members:
        if member.device == device and member.image is not None:
            return member.image
    raise Internal(f"the record of {snapshot.id} names no image for {device}")


def _json(image: FileLocation) -> dict[str, str]:
    return {"path": str(image.path), "format": image.format}


def _location(told: Mapping[str, str]) -> FileLocation:
    return Member.location(told["path"], told["format"])
