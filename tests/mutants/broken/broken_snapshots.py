"""The array driver with one method wrong each: snapshots, reverts, changed blocks, VM snapshots."""

# ruff: noqa: D102, ARG002 - the class says what is wrong, and the SPI what the arguments are

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from bollard.core.spi import (
    Call,
    Conflict,
    Extent,
    NotFound,
    Page,
    Snapshot,
    VmRef,
    VmSnapshotTaken,
    Volume,
    VolumeSpec,
)
from bollard.drivers.primary.array import ArrayDriver
from bollard.transfer_objects.ids import SnapshotId, VolumeId


class CutsAgain(ArrayDriver):
    """Asking again for a snapshot cuts it anew."""

    def create_snapshot(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Snapshot:
        self.delete_snapshot(snapshot, call)
        return super().create_snapshot(volume, snapshot, call)


class AnyVolumesSnapshot(ArrayDriver):
    """A snapshot of that id is returned, whichever volume it is of."""

    def create_snapshot(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Snapshot:
        try:
            return super().create_snapshot(volume, snapshot, call)
        except Conflict:
            return dataclasses.replace(self.get_snapshot(snapshot, call), volume=volume)


class DeletesTheLine(ArrayDriver):
    """Deleting a snapshot deletes those that are newer."""

    def delete_snapshot(self, snapshot: SnapshotId, call: Call) -> None:
        try:
            gone = self.get_snapshot(snapshot, call)
        except NotFound:
            return
        for other in self.list_snapshots(gone.volume, call).items:
            if other.created >= gone.created:
                super().delete_snapshot(other.id, call)


class DeleteMissingSnapshotRaises(ArrayDriver):
    """Deleting a snapshot that is not there is an error."""

    def delete_snapshot(self, snapshot: SnapshotId, call: Call) -> None:
        self.get_snapshot(snapshot, call)
        super().delete_snapshot(snapshot, call)


class SnapshotsAreNotDeleted(ArrayDriver):
    """Deleting a snapshot does nothing."""

    def delete_snapshot(self, snapshot: SnapshotId, call: Call) -> None:
        return


class SnapshotsHaveTheVolumesSize(ArrayDriver):
    """A snapshot has the size that its volume has today."""

    def get_snapshot(self, snapshot: SnapshotId, call: Call) -> Snapshot:
        found = super().get_snapshot(snapshot, call)
        return dataclasses.replace(found, size=self.get_volume(found.volume, call).size)

    def list_snapshots(
        self, volume: VolumeId, call: Call, *, after: str | None = None, limit: int = 1000
    ) -> Page[Snapshot]:
        page = super().list_snapshots(volume, call, after=after, limit=limit)
        return Page(items=[self.get_snapshot(s.id, call) for s in page.items], after=page.after)


class ListsOneSnapshot(ArrayDriver):
    """Only the newest snapshot of a volume is listed."""

    def list_snapshots(
        self, volume: VolumeId, call: Call, *, after: str | None = None, limit: int = 1000
    ) -> Page[Snapshot]:
        return Page(items=list(super().list_snapshots(volume, call).items)[-1:])


class RevertsToForeign(ArrayDriver):
    """A volume is reverted to another volume's snapshot by making it anew from that."""

    def revert_volume(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Volume:
        talk = self._client.talk(call)
        target, source = self._volume(talk, volume), self._snapshot(talk, snapshot)
        if source.volume == target.id:
            return super().revert_volume(volume, snapshot, call)
        return target.to_spi()


class RevertRevokesFirst(ArrayDriver):
    """A volume that a host has is reverted under its hands."""

    def revert_volume(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Volume:
        for grant in self.list_grants(volume, call):
            self.revoke(volume, grant.host, call)
        return super().revert_volume(volume, snapshot, call)


class RevertKeepsTheSize(ArrayDriver):
    """A reverted volume is grown back to the size that it had."""

    def revert_volume(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Volume:
        size = self.get_volume(volume, call).size
        super().revert_volume(volume, snapshot, call)
        return self.resize_volume(volume, size, call)


class RevertCutsFirst(ArrayDriver):
    """A revert deletes all snapshots that are newer."""

    def revert_volume(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Volume:
        target = self.get_snapshot(snapshot, call)
        done = super().revert_volume(volume, snapshot, call)
        for other in self.list_snapshots(volume, call).items:
            if other.created > target.created:
                self.delete_snapshot(other.id, call)
        return done


class RestoresAreDeltas(ArrayDriver):
    """A volume of a snapshot is a clone of the volume as it is now."""

    def create_volume_from_snapshot(self, snapshot: SnapshotId, spec: VolumeSpec, call: Call) -> Volume:
        return self.clone_volume(self.get_snapshot(snapshot, call).volume, spec, call)


class DeletedBaseIsNothing(ArrayDriver):
    """With a base that is gone nothing has changed."""

    def changed(
        self, base: SnapshotId | None, target: SnapshotId, call: Call, *, start: int = 0
    ) -> Iterator[Extent]:
        try:
            return super().changed(base, target, call, start=start)
        except NotFound:
            return iter(())


class ForeignBaseIsFull(ArrayDriver):
    """With a base of another volume everything has changed."""

    def changed(
        self, base: SnapshotId | None, target: SnapshotId, call: Call, *, start: int = 0
    ) -> Iterator[Extent]:
        if (
            base is not None
            and self.get_snapshot(base, call).volume != self.get_snapshot(target, call).volume
        ):
            base = None
        return super().changed(base, target, call, start=start)


class ResumesOneExtentLate(ArrayDriver):
    """A stream that starts at an offset begins behind the extent that lies across it."""

    def changed(
        self, base: SnapshotId | None, target: SnapshotId, call: Call, *, start: int = 0
    ) -> Iterator[Extent]:
        found = super().changed(base, target, call)
        return (extent for extent in found if extent.offset >= start) if start else found


class ReportsNoZeros(ArrayDriver):
    """What became zero is left out of a delta."""

    def changed(
        self, base: SnapshotId | None, target: SnapshotId, call: Call, *, start: int = 0
    ) -> Iterator[Extent]:
        for extent in super().changed(base, target, call, start=start):
            if extent.kind.name == "DATA":
                yield extent


class DeltaEndsAtTheOldSize(ArrayDriver):
    """What was written behind the base's end is left out of a delta."""

    def changed(
        self, base: SnapshotId | None, target: SnapshotId, call: Call, *, start: int = 0
    ) -> Iterator[Extent]:
        end = self.get_snapshot(base or target, call).size
        return (e for e in super().changed(base, target, call, start=start) if e.offset < end)


class DeltaIsOfTheLastSnapshot(ArrayDriver):
    """A delta is always that to the snapshot just before the target."""

    def changed(
        self, base: SnapshotId | None, target: SnapshotId, call: Call, *, start: int = 0
    ) -> Iterator[Extent]:
        if base is not None:
            now = self.get_snapshot(target, call)
            line = [s for s in self.list_snapshots(now.volume, call).items if s.created < now.created]
            base = line[-1].id if line else base
        return super().changed(base, target, call, start=start)


class GroupsOneByOne(ArrayDriver):
    """A VM snapshot is only of the first volume."""

    def take_vm_snapshot(self, volumes: Sequence[VolumeId], vm: VmRef, call: Call) -> VmSnapshotTaken:
        taken = super().take_vm_snapshot(volumes[:1], vm, call)
        members = dict.fromkeys(volumes, next(iter(taken.members.values())))
        return dataclasses.replace(taken, members=members)
