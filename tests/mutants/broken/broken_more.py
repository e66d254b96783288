"""Drivers with one method wrong each, for the checks on which no other broken driver fails."""

# ruff: noqa: D102, ARG002 - the class says what is wrong, and the SPI what the arguments are

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from bollard.core.paging import all_pages
from bollard.core.spi import (
    Body,
    Call,
    Capability,
    Capacity,
    Extent,
    ExtentKind,
    FileLocation,
    Guest,
    Host,
    Internal,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    OutOfCapacity,
    PoolInfo,
    Qos,
    QuiescedSnapshots,
    Snapshot,
    StorageError,
    StoredObject,
    Traits,
    Unavailable,
    VmRef,
    VmSnapshotTaken,
    Volume,
    VolumeSpec,
)
from bollard.drivers.primary.array import ArrayDriver
from bollard.drivers.primary.array.volumes import delete_if_there
from bollard.drivers.primary.qcow2 import Qcow2Driver
from bollard.drivers.secondary.nfs import NfsDriver
from bollard.transfer_objects.ids import HostId, SnapshotId, VolumeId, new_id

MIB = 2**20


# -- the pool -----------------------------------------------------------------------------------------------


class OpensLazily(ArrayDriver):
    """Opening does not look: what is wrong is noticed with the first volume."""

    def open(self, call: Call) -> PoolInfo:
        try:
            return super().open(call)
        except StorageError:
            return PoolInfo(identity="unknown", name="unknown")


class OpenLeavesAMark(ArrayDriver):
    """Each opening tries whether a volume can be made, and leaves it."""

    def open(self, call: Call) -> PoolInfo:
        info = super().open(call)
        self.create_volume(VolumeSpec(id=VolumeId(new_id("probe")), size=MIB), call)
        return info


class LacksWithoutReason(ArrayDriver):
    """A capability is not available, and nobody knows why."""

    def unavailable(self, call: Call) -> Mapping[Capability, str]:
        return {Capability.CHAP: ""}


class LacksALicence(ArrayDriver):
    """Right: CHAP is declared, and not to be had on this array. Core is what is made lenient."""

    def unavailable(self, call: Call) -> Mapping[Capability, str]:
        return {Capability.CHAP: "this array has no licence for CHAP"}


class NoSpaceIsInternal(ArrayDriver):
    """A pool that is too small is an internal error."""

    def create_volume(self, spec: VolumeSpec, call: Call) -> Volume:
        try:
            return super().create_volume(spec, call)
        except OutOfCapacity as error:
            raise Internal("the array failed") from error


class HasAQuota(ArrayDriver):
    """Right on an array that frees space: of its pool 100 MiB are ours, which are soon filled."""

    QUOTA = 100 * MIB

    def create_volume(self, spec: VolumeSpec, call: Call) -> Volume:
        if self.capacity(call).used + spec.size > self.QUOTA:
            raise OutOfCapacity(f"the quota of {self.QUOTA} bytes is used up")
        return super().create_volume(spec, call)

    def capacity(self, call: Call) -> Capacity:
        found = super().capacity(call)
        return replace(found, total=self.QUOTA, used=min(found.used, self.QUOTA))


class KeepsATimeInPrivate(ArrayDriver):
    """Private data says when the volume was looked at."""

    def get_volume(self, volume: VolumeId, call: Call) -> Volume:
        found = super().get_volume(volume, call)
        return replace(found, private={**found.private, "seen": str(time.time_ns())})


# -- volumes ------------------------------------------------------------------------------------------------


class AcceptsAnyLimits(ArrayDriver):
    """Limits that make no sense are accepted."""

    def set_qos(self, volume: VolumeId, qos: Qos | None, call: Call) -> Volume:
        try:
            return super().set_qos(volume, qos, call)
        except InvalidArgument:
            return self.get_volume(volume, call)


class LooksAtWhatCameOut(ArrayDriver):
    """Right on an array that deletes: a volume that is too small is made, looked at, and deleted."""

    def traits(self) -> Traits:
        return replace(super().traits(), min_size=MIB)

    def create_volume(self, spec: VolumeSpec, call: Call) -> Volume:
        made = super().create_volume(spec, call)
        if made.size >= MIB:
            return made
        self.delete_volume(spec.id, call)
        raise InvalidArgument(f"size must be at least {MIB} bytes, got {made.size}")


class ShortHostNames(ArrayDriver):
    """A host is registered under the beginning of its id."""

    def grant(self, volume: VolumeId, host: Host, call: Call, *, read_only: bool = False) -> Any:
        return super().grant(volume, replace(host, id=_short(host.id)), call, read_only=read_only)

    def revoke(self, volume: VolumeId, host: HostId, call: Call) -> None:
        super().revoke(volume, _short(host), call)


def _short(host: HostId) -> HostId:
    return HostId(host[:32].strip("-"))


# -- snapshots ----------------------------------------------------------------------------------------------


class CopiesKeepTheirSize(ArrayDriver):
    """A volume made of a snapshot is no larger than it."""

    def create_volume_from_snapshot(self, snapshot: SnapshotId, spec: VolumeSpec, call: Call) -> Volume:
        size = self.get_snapshot(snapshot, call).size
        return super().create_volume_from_snapshot(snapshot, replace(spec, size=size), call)


class RestoresAnewOnRetry(ArrayDriver):
    """Asking again for a volume of a snapshot makes it again, over what a host wrote meanwhile."""

    def create_volume_from_snapshot(self, snapshot: SnapshotId, spec: VolumeSpec, call: Call) -> Volume:
        self.delete_volume(spec.id, call)
        return super().create_volume_from_snapshot(snapshot, spec, call)


class DiesWithItsSnapshot(ArrayDriver):
    """A volume made of a snapshot cannot be reached without it."""

    def create_volume_from_snapshot(self, snapshot: SnapshotId, spec: VolumeSpec, call: Call) -> Volume:
        self.__dict__.setdefault("made", {})[spec.id] = snapshot
        return super().create_volume_from_snapshot(snapshot, spec, call)

    def grant(self, volume: VolumeId, host: Host, call: Call, *, read_only: bool = False) -> Any:
        made = self.__dict__.get("made", {})
        if volume in made:
            self.get_snapshot(made[volume], call)
        return super().grant(volume, host, call, read_only=read_only)


class CountsByPages(ArrayDriver):
    """Right on an array that lists all: a volume has four snapshots at most, counted page by page."""

    def traits(self) -> Traits:
        return replace(super().traits(), max_snapshots_per_volume=4)

    def create_snapshot(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Snapshot:
        present = all_pages(lambda after: self.list_snapshots(volume, call, after=after, limit=2))
        if len({found.id for found in present} - {snapshot}) >= 4:
            raise LimitExceeded(f"volume {volume} has four snapshots")
        return super().create_snapshot(volume, snapshot, call)


class CountsDeletedSnapshots(ArrayDriver):
    """A volume may have four snapshots in its life, however many were deleted."""

    def create_snapshot(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Snapshot:
        taken: set[SnapshotId] = self.__dict__.setdefault("taken", {}).setdefault(volume, set())
        if len(taken | {snapshot}) > 4:
            raise LimitExceeded("four snapshots are the most that a volume can have")
        taken.add(snapshot)
        return super().create_snapshot(volume, snapshot, call)


class NoBaseIsNothing(ArrayDriver):
    """Without a base all is said to be a hole."""

    def changed(
        self, base: SnapshotId | None, target: SnapshotId, call: Call, *, start: int = 0
    ) -> Iterator[Extent]:
        for extent in super().changed(base, target, call, start=start):
            yield extent if base is not None else replace(extent, kind=ExtentKind.HOLE)


class LosesTheLastExtent(ArrayDriver):
    """The last data of a delta are left out."""

    def changed(
        self, base: SnapshotId | None, target: SnapshotId, call: Call, *, start: int = 0
    ) -> Iterator[Extent]:
        found = list(super().changed(base, target, call, start=start))
        data = [extent for extent in found if extent.kind is ExtentKind.DATA]
        return iter([e for e in found if base is None or e not in data[-1:]])


class RemembersItsBases(ArrayDriver):
    """A snapshot that was seen is there for ever; what cannot be compared with it has not changed."""

    def get_snapshot(self, snapshot: SnapshotId, call: Call) -> Snapshot:
        seen: dict[SnapshotId, Snapshot] = self.__dict__.setdefault("seen", {})
        if snapshot not in seen:
            seen[snapshot] = super().get_snapshot(snapshot, call)
        return seen[snapshot]

    def changed(
        self, base: SnapshotId | None, target: SnapshotId, call: Call, *, start: int = 0
    ) -> Iterator[Extent]:
        try:
            return super().changed(base, target, call, start=start)
        except NotFound:
            return iter(())


class DeltaIsSinceTheRevert(ArrayDriver):
    """A revert begins the record of changes anew: what it undid is in no delta."""

    def revert_volume(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Volume:
        self.__dict__.setdefault("line", {})[volume] = snapshot
        return super().revert_volume(volume, snapshot, call)

    def changed(
        self, base: SnapshotId | None, target: SnapshotId, call: Call, *, start: int = 0
    ) -> Iterator[Extent]:
        line = self.__dict__.get("line", {})
        since = line.get(self.get_snapshot(target, call).volume, base)
        return super().changed(base and since, target, call, start=start)


# -- VM snapshots -------------------------------------------------------------------------------------------


class CutsOneByOne(ArrayDriver):
    """A VM's volumes are cut one after the other, until one is missing."""

    def take_vm_snapshot(self, volumes: Sequence[VolumeId], vm: VmRef, call: Call) -> VmSnapshotTaken:
        cut = {v: self.create_snapshot(v, SnapshotId(new_id("one")), call).id for v in volumes}
        return VmSnapshotTaken(need_unquiesce=False, members=cut)


class RevertsOneByOne(ArrayDriver):
    """A VM's volumes are put back one after the other, until one is in use."""

    def revert_vm_snapshot(self, volumes: Sequence[VolumeId], vm: VmRef, call: Call) -> None:
        for volume in volumes:
            super().revert_vm_snapshot([volume], vm, call)


class RevertsTheRootDisk(ArrayDriver):
    """Only the first of a VM's volumes is put back."""

    def revert_vm_snapshot(self, volumes: Sequence[VolumeId], vm: VmRef, call: Call) -> None:
        super().revert_vm_snapshot(volumes[:1], vm, call)


class DeletesAllSnapshots(ArrayDriver):
    """Deleting a VM's snapshot deletes every snapshot of its volumes."""

    def delete_vm_snapshot(self, volumes: Sequence[VolumeId], vm: VmRef, call: Call) -> None:
        for volume in volumes:
            for snapshot in self.list_snapshots(volume, call).items:
                self.delete_snapshot(snapshot.id, call)


class QuiescesCarefully(ArrayDriver, QuiescedSnapshots):
    """Right on a sound array: after a failure remains are removed, and then the guest is thawed.

    If the removal fails as well, the guest stays frozen.
    """

    def create_quiesced_snapshot(
        self, volume: VolumeId, snapshot: SnapshotId, guest: Guest, call: Call
    ) -> Snapshot:
        guest.freeze()
        try:
            made = self.create_snapshot(volume, snapshot, call)
        except StorageError:
            with suppress(StorageError):
                delete_if_there(self._client.talk(call), "snapshots", snapshot)
                guest.thaw()
            raise
        guest.thaw()
        return made


# -- stores -------------------------------------------------------------------------------------------------


class PutsOnce(NfsDriver):
    """An object that is there is not put again."""

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        return super().put(key, body, call, if_absent=True)


class CloseUnmounts(NfsDriver):
    """Closing takes the mount away, whoever else works on it."""

    def open(self, call: Call) -> None:
        super().open(call)
        self._mark.touch()

    def close(self) -> None:
        if self._root is not None:
            self._mark.unlink(missing_ok=True)
        super().close()

    @property
    def _mark(self) -> Path:
        return self.directory.with_name("mounted")

    def get(self, key: str, call: Call, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        if not self._mark.exists():
            raise Unavailable("nothing is mounted")
        return super().get(key, call, offset=offset, length=length)


# -- files that hosts mount ---------------------------------------------------------------------------------


class PathOfTheProcess(Qcow2Driver):
    """Each process finds a volume at another path."""

    def locate_volume(self, volume: VolumeId, call: Call) -> FileLocation:
        place = super().locate_volume(volume, call)
        link = place.path.with_name(f"link-{os.getpid()}-{place.path.name}")
        link.unlink(missing_ok=True)
        link.symlink_to(place.path)
        return replace(place, path=link)


class RelativePaths(Qcow2Driver):
    """The path of a volume is relative to the process's directory."""

    def locate_volume(self, volume: VolumeId, call: Call) -> FileLocation:
        place = super().locate_volume(volume, call)
        return replace(place, path=Path(os.path.relpath(place.path)))


class LinkedClones(Qcow2Driver):
    """A clone is a file that refers to its source."""

    def clone_volume(self, source: VolumeId, spec: VolumeSpec, call: Call) -> Volume:
        made = super().clone_volume(source, spec, call)
        base, clone = (self.locate_volume(v, call).path for v in (source, spec.id))
        command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(base), str(clone)]
        subprocess.run(command, check=True, timeout=30)
        return made


class FormatIsMistold(Qcow2Driver):
    """All files are said to be raw."""

    def locate_volume(self, volume: VolumeId, call: Call) -> FileLocation:
        return replace(super().locate_volume(volume, call), format="raw")


class WritableSnapshots(Qcow2Driver):
    """Whoever reads a snapshot may write to it."""

    def locate_snapshot(self, snapshot: SnapshotId, call: Call) -> FileLocation:
        return replace(super().locate_snapshot(snapshot, call), read_only=False)


class DeletesKeepACopy(Qcow2Driver):
    """A deleted volume leaves its file under another name."""

    def delete_volume(self, volume: VolumeId, call: Call) -> None:
        with suppress(NotFound):
            path = self.locate_volume(volume, call).path
            shutil.copyfile(path, path.with_name(f"{path.name}.deleted"))
        super().delete_volume(volume, call)


class DeletesByPattern(Qcow2Driver):
    """Deleting a volume removes every file whose name begins with its id."""

    def delete_volume(self, volume: VolumeId, call: Call) -> None:
        with suppress(NotFound):
            path = self.locate_volume(volume, call).path
            for each in path.parent.glob(f"{volume}*"):
                each.unlink()
