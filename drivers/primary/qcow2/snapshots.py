"""Snapshots: complete copies of stopped volumes, in the pool's `snapshots/`."""

from __future__ import annotations

import os
from pathlib import Path

from ....core.dataplane import image_lock
from ....core.spi import (
    Call,
    Conflict,
    DirectSnapshotRead,
    FileLocation,
    InvalidArgument,
    NotFound,
    Page,
    Reverts,
    Snapshot,
    Snapshots,
    Volume,
    VolumeFromSnapshot,
    VolumeSpec,
)
from ....transfer_objects.ids import SnapshotId, VolumeId
from . import images
from .shelf import Record, now
from .volumes import Source, VolumeFiles, page


class SnapshotFiles(VolumeFiles, Snapshots, DirectSnapshotRead, Reverts, VolumeFromSnapshot):
    """Snapshots of volumes, and volumes of snapshots."""

    def create_snapshot(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Snapshot:
        """See `Snapshots.create_snapshot`: every byte is copied, or shared where the file system can."""
        volumes, shelf = self._pool.volumes, self._pool.snapshots
        with self._pool.job(shelf, snapshot, call, shared=[volumes.lock_name(volume)]) as job:
            present = self._find_snapshot(snapshot)
            if present is not None:
                return self._snapshot(_expect_of(volume, present, Conflict))
            source = self._volume_record(volume)
            record = Record(
                key=f"{volume}.{snapshot}",
                format=source.format,
                origin=f"volume:{volume}",
                created=now(),
                sealed=True,
            )
            images.copy(job, volumes.image(source), source.format)
            job.staged.chmod(0o440)
            shelf.publish(record, job.staged)
            return self._snapshot(record)

    def delete_snapshot(self, snapshot: SnapshotId, call: Call) -> None:
        """See `Snapshots.delete_snapshot`. One that is being read is `InUse`."""
        shelf = self._pool.snapshots
        with self._pool.job(shelf, snapshot, call):
            record = self._find_snapshot(snapshot)
            if record is not None:
                with image_lock.alone(shelf.image(record)):
                    shelf.discard(record)

    def get_snapshot(self, snapshot: SnapshotId, call: Call) -> Snapshot:
        """See `Snapshots.get_snapshot`."""
        with self._pool.reading(call):
            return self._snapshot(self._snapshot_record(snapshot))

    def list_snapshots(
        self, volume: VolumeId, call: Call, *, after: str | None = None, limit: int = 1000
    ) -> Page[Snapshot]:
        """See `Snapshots.list_snapshots`; sorted by id."""
        with self._pool.reading(call):
            return page(self._snapshots_of(volume, after or ""), self._snapshot, limit)

    def locate_snapshot(self, snapshot: SnapshotId, call: Call) -> FileLocation:
        """See `DirectSnapshotRead.locate_snapshot`."""
        with self._pool.reading(call):
            record = self._snapshot_record(snapshot)
            path = self._pool.snapshots.image(record)
            return FileLocation(path=path, format=record.format, read_only=True)

    def revert_volume(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Volume:
        """See `Reverts.revert_volume`: a copy of the snapshot takes the image's place in one rename."""
        volumes, snapshots = self._pool.volumes, self._pool.snapshots
        with self._pool.job(volumes, volume, call, shared=[snapshots.lock_name(snapshot)]) as job:
            record = self._volume_record(volume)
            source = _expect_of(volume, self._snapshot_record(snapshot), InvalidArgument)
            with image_lock.alone(volumes.image(record)) as present:
                images.copy(job, snapshots.image(source), source.format)
                _give_same_rights(job.staged, os.fstat(present))
                volumes.replace_image(record, job.staged)
            return self._volume(volumes, record)

    def create_volume_from_snapshot(self, snapshot: SnapshotId, spec: VolumeSpec, call: Call) -> Volume:
        """See `VolumeFromSnapshot.create_volume_from_snapshot`."""
        source = Source(self._pool.snapshots, snapshot, lambda: self._snapshot_record(snapshot))
        return self._new_volume(spec, call, source)

    def _find_snapshot(self, snapshot: SnapshotId) -> Record | None:
        shelf = self._pool.snapshots
        shelf.lock_name(snapshot)  # refuses what is no id
        key = next((key for key in shelf.sorted_keys() if key.endswith(f".{snapshot}")), None)
        return shelf.find(key) if key else None

    def _snapshot_record(self, snapshot: SnapshotId) -> Record:
        record = self._find_snapshot(snapshot)
        if record is None:
            raise NotFound(f"snapshot {snapshot} does not exist")
        return record

    def _snapshot(self, record: Record) -> Snapshot:
        volume, _, snapshot = record.key.partition(".")
        return Snapshot(
            id=SnapshotId(snapshot),
            volume=VolumeId(volume),
            size=images.virtual_size(self._pool.snapshots.image(record), record.format),
            created=record.created_at,
        )


def _expect_of(volume: VolumeId, record: Record, error: type[Conflict | InvalidArgument]) -> Record:
    owner, _, snapshot = record.key.partition(".")
    if owner != volume:
        raise error(f"snapshot {snapshot} is of volume {owner}, not of {volume}")
    return record


def _give_same_rights(image: Path, like: os.stat_result) -> None:
    """Keep what libvirt gave to the QEMU user on the file that is about to be replaced."""
    made = image.stat()
    if (made.st_uid, made.st_gid) != (like.st_uid, like.st_gid):
        os.chown(image, like.st_uid, like.st_gid)
    image.chmod(like.st_mode & 0o7777)
