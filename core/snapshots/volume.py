"""Volume snapshots and where they live: Standard or Archive.

                  Standard (default)                        Archive
    managed       stays on the array                        copied to secondary, verified there,
                                                            only then removed from the array
    non-managed   copied to secondary, verified there,      refused: its Standard is that already
                  then removed from the pool

    take:  archived already? ── yes ──────────────────────────────┐
             │ no                                                 v
             └─> cut on primary ─> archive ─> commit ─> verify ─> remove from primary

Every step can be repeated: a retry finds the cut or the manifest of the run before and goes on from
there, and never makes a later cut under the same id. The copy goes straight to the store, whatever
the hypervisor; there is no staging store.

An id alone does not say that a snapshot on the pool and one in the archive are the same cut: another
volume's may have it, or somebody deleted the one and took a new one. Volume and time must match, too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from ...transfer_objects.enums import SnapshotLocation
from ...transfer_objects.ids import SnapshotId, VolumeId
from ..access import Mover
from ..archive import Archive, Compression, CreateOptions, Level, Manifest, check_compression
from ..archive.canonical import time_text
from ..archive.create import Copier
from ..dataplane import BlockSource, merge
from ..dataplane.slice import SinkSlice
from ..pool import Pool
from ..spi import (
    Call,
    Capability,
    Conflict,
    DataLoss,
    Extent,
    Guest,
    Internal,
    InvalidArgument,
    NotFound,
    Snapshot,
    Unsupported,
    Volume,
    VolumeSpec,
)
from ..steps import step
from .origin import origin_of
from .ranges import copy_range

_log = logging.getLogger("bollard.snapshots")

SECTOR = 512
"""Bytes that disks are written in at least."""

Spread = Callable[[Pool, SnapshotId, VolumeId | None], Copier]
"""Given the pool, the snapshot and its clone as `Mover.sharing_snapshot` yields it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenSnapshot:
    """Where a snapshot is now.

    Attributes:
        on_primary: the pool still holds it.
        archived: its manifest on the secondary store, or None.
        created: when the cut was made (ISO 8601).
    """

    volume: VolumeId
    snapshot: SnapshotId
    location: SnapshotLocation
    on_primary: bool
    archived: Manifest | None
    created: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSnapshots:
    """Snapshots of one pool's volumes, with one archive behind it.

    Attributes:
        verify: how thoroughly a copy is read back before the primary one goes. The copy is then the
            only one, so the default reads every part and compares its digest.
        spread: makes what copies a snapshot on other machines (core.fleet); None: this process copies.
        compression: of what is archived.

    Raises:
        Unsupported: the library of that compression is missing.
    """

    pool: Pool
    archive: Archive
    mover: Mover
    verify: Level = Level.DIGEST
    spread: Spread | None = None
    compression: Compression = "stored"

    def __post_init__(self) -> None:
        check_compression(self.compression)  # now, and not when the snapshot has been cut

    def take(
        self,
        volume: VolumeId,
        snapshot: SnapshotId,
        call: Call,
        *,
        location: SnapshotLocation = SnapshotLocation.STANDARD,
        parent: SnapshotId | None = None,
        guest: Guest | None = None,
    ) -> TakenSnapshot:
        """Take a snapshot and bring it where `location` says.

        Args:
            parent: an archived snapshot of the volume that the copy may be an increment of.
            guest: quiesce it for the cut.

        Raises:
            InvalidArgument: Archive on a non-managed pool.
            NotFound: no such volume, or no such parent in the archive; nothing was cut.
            Unsupported: the pool cannot do what the location needs; nothing was cut.
        """
        self._check(location)
        if self.pool.managed and location is SnapshotLocation.STANDARD:
            return self._taken(self._cut(volume, snapshot, call, guest), location)
        manifest = self._to_secondary(volume, snapshot, call, parent, guest)
        self.release(volume, snapshot, call)
        return TakenSnapshot(
            volume=volume,
            snapshot=snapshot,
            location=location,
            on_primary=False,
            archived=manifest,
            created=manifest.created,
        )

    def take_both(
        self,
        volume: VolumeId,
        snapshot: SnapshotId,
        call: Call,
        *,
        parent: SnapshotId | None = None,
        guest: Guest | None = None,
    ) -> TakenSnapshot:
        """Take a snapshot that is archived and stays on the pool: the next increment's best base."""
        self._check(SnapshotLocation.ARCHIVE if self.pool.managed else SnapshotLocation.STANDARD)
        manifest = self._to_secondary(volume, snapshot, call, parent, guest)
        return TakenSnapshot(
            volume=volume,
            snapshot=snapshot,
            location=SnapshotLocation.STANDARD,
            on_primary=self._primary(volume, snapshot, call) is not None,
            archived=manifest,
            created=manifest.created,
        )

    def _to_secondary(
        self,
        volume: VolumeId,
        snapshot: SnapshotId,
        call: Call,
        parent: SnapshotId | None,
        guest: Guest | None,
    ) -> Manifest:
        if (manifest := self._archived(volume, snapshot, call)) is not None:
            return manifest
        if parent == snapshot:
            raise InvalidArgument(f"snapshot {snapshot} cannot be an increment to itself")
        if parent is not None:
            self.archive.show(call, volume=volume, snapshot=parent)  # a wrong name is told before the cut
        self._cut(volume, snapshot, call, guest)
        return self.archive_snapshot(volume, snapshot, call, parent=parent)

    def _cut(self, volume: VolumeId, snapshot: SnapshotId, call: Call, guest: Guest | None) -> Snapshot:
        return self.pool.snapshots.create(volume, snapshot, step(call), guest=guest)

    def _check(self, location: SnapshotLocation) -> None:
        able = self.pool.capabilities().native
        if location is SnapshotLocation.ARCHIVE and not self.pool.managed:
            raise InvalidArgument(
                f"location Archive is for managed storage: pool {self.pool.name!r} is not managed,"
                " its Standard snapshots go to secondary storage already"
            )
        readable = {Capability.DIRECT_SNAPSHOT_READ, Capability.VOLUME_FROM_SNAPSHOT} & able
        stays = self.pool.managed and location is SnapshotLocation.STANDARD
        if Capability.SNAPSHOTS not in able or not (readable or stays):
            raise Unsupported(f"pool {self.pool.name!r} cannot make snapshots that can be archived")

    def archive_snapshot(
        self, volume: VolumeId, snapshot: SnapshotId, call: Call, *, parent: SnapshotId | None = None
    ) -> Manifest:
        """Copy a snapshot that is on the pool to the archive; it stays on the pool too.

        Raises:
            NotFound: the pool has no such snapshot of this volume, or the archive no such parent.
        """
        cut = self._primary(volume, snapshot, call)
        if cut is None:
            raise NotFound(f"pool {self.pool.name!r} has no snapshot {snapshot} of volume {volume}")
        changed = self._changed(volume, parent, snapshot, call)
        with self._reading(snapshot) as (source, copy):
            return self.archive.create(
                self.pool.throttle.source(source, call),
                call,
                volume=volume,
                snapshot=snapshot,
                parent=parent,
                changed=changed,
                options=CreateOptions(
                    created=cut.created, origin=origin_of(self.pool.name), compression=self.compression
                ),
                copy=copy,
            )

    @contextmanager
    def _reading(self, snapshot: SnapshotId) -> Iterator[tuple[BlockSource, Copier | None]]:
        """Open the snapshot for this process, and for others if they are to copy it."""
        if self.spread is None:
            with self.mover.reading_snapshot(self.pool, snapshot) as source:
                yield source, None
            return
        with self.mover.sharing_snapshot(self.pool, snapshot) as clone:
            copy = self.spread(self.pool, snapshot, clone)
            with self.mover.reading_shared(self.pool, snapshot, clone) as source:
                yield source, copy

    def _changed(
        self, volume: VolumeId, parent: SnapshotId | None, snapshot: SnapshotId, call: Call
    ) -> list[Extent] | None:
        """Return what the storage says has changed, or None: then hashes are compared.

        A storage that no longer knows (the parent left the pool, tracking was lost) costs reading,
        never correctness.
        """
        if parent is None or Capability.CHANGED_BLOCKS not in self.pool.capabilities().native:
            return None
        base = self._primary(volume, parent, call)
        if base is None or not _same_cut(base, self.archive.show(call, volume=volume, snapshot=parent)):
            _log.info("the parent %s is no longer on the pool, comparing hashes", parent)
            return None
        try:
            return list(merge(self.pool.snapshots.changed(parent, snapshot, step(call))))
        except (NotFound, Unsupported, Internal) as error:
            _log.warning("no changed blocks from %s to %s, comparing hashes: %s", parent, snapshot, error)
            return None

    def release(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> None:
        """Remove the primary copy, but only after the archived one was read back and found whole.

        Raises:
            NotFound: it is not in the archive.
            Conflict: the pool and the archive have two different cuts of this id.
            DataLoss: the archived copy is damaged. In all three cases the primary one stays.
        """
        primary = self._primary(volume, snapshot, call)
        if primary is None:
            return
        if not _same_cut(primary, self.archive.show(call, volume=volume, snapshot=snapshot)):
            raise Conflict(
                f"snapshot {snapshot} of {volume} on the pool is another cut than the archived one"
            )
        report = self.archive.verify(step(call), volume=volume, snapshot=snapshot, level=self.verify)
        if report.problems:
            raise DataLoss(
                f"the archived copy of {snapshot} is damaged, the primary one stays: {report.problems[0]}"
            )
        self.pool.snapshots.delete(snapshot, step(call))

    def _primary(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Snapshot | None:
        """Return the pool's snapshot of this id, if it is of this volume."""
        try:
            found = self.pool.snapshots.get(snapshot, step(call))
        except NotFound:
            return None
        return found if found.volume == volume else None

    def _archived(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Manifest | None:
        try:
            return self.archive.show(call, volume=volume, snapshot=snapshot)
        except NotFound:
            return None

    @staticmethod
    def _taken(snapshot: Snapshot, location: SnapshotLocation) -> TakenSnapshot:
        return TakenSnapshot(
            volume=snapshot.volume,
            snapshot=snapshot.id,
            location=location,
            on_primary=True,
            archived=None,
            created=snapshot.created.isoformat(),
        )

    def newest(self, volume: VolumeId, call: Call) -> SnapshotId | None:
        """Return the archived snapshot of a volume that was cut last: the natural parent of the next."""
        entries = self.archive.list(call, volume=volume)
        manifests = [self.archive.show(call, volume=e.volume, snapshot=e.snapshot) for e in entries]
        latest = max(manifests, key=lambda m: (m.created, m.snapshot), default=None)
        return None if latest is None else SnapshotId(latest.snapshot)

    def restore(
        self, volume: VolumeId, snapshot: SnapshotId, target: VolumeId, call: Call, *, name: str = ""
    ) -> Volume:
        """Make a new volume on the pool from an archived snapshot, of this or any other pool.

        A volume that a failed restore half filled is removed again; after a crash by the next restore
        of this machine, or by the sweep. One that exists is overwritten, its limits lifted meanwhile.

        Raises:
            Conflict: `target` exists with another size.
        """
        # Else a half-filled `target` of a killed run would be filled again here, and removed by a later
        # sweep, which does not know that it has become whole.
        self.mover.sweep_pool(self.pool)
        size = self.archive.show(call, volume=volume, snapshot=snapshot).size
        fresh = not self._exists(target, call)
        filled: AbstractContextManager[object] = (
            self.mover.filling_volume(self.pool, target)
            if fresh
            else self.mover.unlimited(self.pool, target)  # it may have limits, which are the guest's
        )
        with filled:
            made = self.pool.volumes.create(VolumeSpec(id=target, size=size, name=name), step(call))
            with self.mover.writing_volume(self.pool, target) as sink:
                slow = self.pool.throttle.sink(sink, call)
                self.archive.restore(slow, call, volume=volume, snapshot=snapshot, sink_is_zero=fresh)
        return made

    def restore_range(
        self,
        volume: VolumeId,
        snapshot: SnapshotId,
        target: VolumeId,
        call: Call,
        *,
        offset: int,
        length: int,
    ) -> Volume:
        """Overwrite a range of an existing volume with what an archived snapshot has there; may be repeated.

        The volume must be detached. What is around the range stays; only the range is fetched.

        Raises:
            NotFound: no such volume or snapshot.
            InvalidArgument: the range leaves the snapshot or the volume, or is not made of whole sectors.
            DataLoss: a part is damaged; what was written before was right.
        """
        if offset % SECTOR or length % SECTOR:
            raise InvalidArgument(f"a range must begin and end at a multiple of {SECTOR} bytes")
        self.mover.sweep_pool(self.pool)  # as in `restore`
        found = self.pool.volumes.get(target, step(call))
        with self.mover.unlimited(self.pool, target), self.mover.writing_volume(self.pool, target) as sink:
            part = SinkSlice(sink, offset, length)
            copy_range(self.archive, volume, snapshot, part, call, offset=offset, length=length)
        return found

    def _exists(self, volume: VolumeId, call: Call) -> bool:
        try:
            self.pool.volumes.get(volume, step(call))
        except NotFound:
            return False
        return True


def _same_cut(found: Snapshot, manifest: Manifest) -> bool:
    return time_text(int(found.created.timestamp() * 1000)) == manifest.created
