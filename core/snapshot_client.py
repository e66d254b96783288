"""Snapshots of a pool's volumes, as an orchestrator handles them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..transfer_objects.ids import SnapshotId, VolumeId
from .checks import check_id
from .extent_guard import checked_extents
from .paging import all_pages
from .spi import (
    Call,
    ChangedBlocks,
    DirectSnapshotRead,
    Extent,
    Guest,
    InvalidArgument,
    Location,
    QuiescedSnapshots,
    Snapshot,
    Snapshots,
)

if TYPE_CHECKING:
    from .pool import Pool


class SnapshotClient:
    """Create, delete, list, compare. Every method is idempotent."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def create(
        self,
        volume: VolumeId,
        snapshot: SnapshotId,
        call: Call | None = None,
        *,
        guest: Guest | None = None,
    ) -> Snapshot:
        """Take a snapshot; with `guest` it is quiesced for the cut (VOLUME_SNAPSHOT_QUIESCEVM)."""
        check_id("volume", volume)
        check_id("snapshot", snapshot)
        if guest is not None:
            return self._quiesced(volume, snapshot, guest, call)
        driver = self._pool.require(Snapshots)
        return self._pool.run(
            "snapshot.create",
            (volume, snapshot),
            lambda c: driver.create_snapshot(volume, snapshot, c),
            call,
        )

    def _quiesced(self, volume: VolumeId, snapshot: SnapshotId, guest: Guest, call: Call | None) -> Snapshot:
        driver = self._pool.require(QuiescedSnapshots)

        def cut(call: Call) -> Snapshot:
            try:
                return driver.create_quiesced_snapshot(volume, snapshot, guest, call)
            finally:
                # Whatever the driver did or promised, and after each attempt: a guest that stays frozen
                # while core waits for the next one is an outage.
                guest.thaw()

        return self._pool.run("snapshot.create_quiesced", (volume, snapshot), cut, call)

    def delete(self, snapshot: SnapshotId, call: Call | None = None) -> None:
        """Delete a snapshot; a missing one is fine."""
        check_id("snapshot", snapshot)
        driver = self._pool.require(Snapshots)
        self._pool.run("snapshot.delete", (snapshot,), lambda c: driver.delete_snapshot(snapshot, c), call)

    def get(self, snapshot: SnapshotId, call: Call | None = None) -> Snapshot:
        """Return the snapshot, or raise `NotFound`."""
        check_id("snapshot", snapshot)
        driver = self._pool.require(Snapshots)
        return self._pool.run("snapshot.get", (), lambda c: driver.get_snapshot(snapshot, c), call)

    def list(self, volume: VolumeId) -> Iterator[Snapshot]:
        """Yield the snapshots of a volume, page by page."""
        check_id("volume", volume)
        pool = self._pool
        driver = pool.require(Snapshots)
        return all_pages(
            lambda after: pool.run(
                "snapshot.list", (), lambda c: driver.list_snapshots(volume, c, after=after)
            )
        )

    def locate(self, snapshot: SnapshotId, call: Call | None = None) -> Location:
        """Return where the snapshot can be read as it stands."""
        check_id("snapshot", snapshot)
        driver = self._pool.require(DirectSnapshotRead)
        return self._pool.run("snapshot.locate", (), lambda c: driver.locate_snapshot(snapshot, c), call)

    def changed(
        self, base: SnapshotId | None, target: SnapshotId, call: Call | None = None, *, start: int = 0
    ) -> Iterator[Extent]:
        """Stream what differs between two snapshots, checked to be sorted and within the volume.

        Raises:
            Unsupported: the pool does not track changes; compare hashes instead.
            NotFound: the backend no longer knows; make a full.
            Internal: the driver broke the contract (unsorted, past the end).
        """
        check_id("target", target)
        if base is not None:
            check_id("base", base)
        if start < 0:
            raise InvalidArgument(f"start must not be negative, got {start}")
        driver = self._pool.require(ChangedBlocks)
        call = call or Call.within(self._pool.timeout)
        size = self.get(target, call).size
        stream = self._pool.run(
            "snapshot.changed", (), lambda c: driver.changed(base, target, c, start=start), call
        )
        return checked_extents(self._pool.stream(stream, call), size)
