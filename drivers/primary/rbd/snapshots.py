"""Snapshots: cut, read, revert, clone, and what changed between two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from ....core.spi import (
    Call,
    ChangedBlocks,
    DirectSnapshotRead,
    Extent,
    ExtentKind,
    Page,
    RbdLocation,
    Reverts,
    Snapshot,
    Snapshots,
    Volume,
    VolumeFromSnapshot,
    VolumeSpec,
    checked_id,
)
from ....transfer_objects.ids import SnapshotId, VolumeId
from .names import own_volume
from .pool import VERSION, volume_of
from .reached import location_of
from .volumes import RbdVolumes, page_size


class RbdSnapshots(RbdVolumes, Snapshots, DirectSnapshotRead, Reverts, VolumeFromSnapshot, ChangedBlocks):
    """A snapshot is RBD's own, cut by whoever holds the image's exclusive lock."""

    def create_snapshot(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Snapshot:
        """See `Snapshots.create_snapshot`."""
        name = checked_id("snapshot", snapshot)
        return snapshot_of(self._agents.ask("snapshot", call, volume=own_volume(volume), snapshot=name))

    def delete_snapshot(self, snapshot: SnapshotId, call: Call) -> None:
        """See `Snapshots.delete_snapshot`."""
        self._agents.ask("delete-snapshot", call, snapshot=checked_id("snapshot", snapshot))

    def get_snapshot(self, snapshot: SnapshotId, call: Call) -> Snapshot:
        """See `Snapshots.get_snapshot`."""
        return snapshot_of(self._agents.ask("get-snapshot", call, snapshot=checked_id("snapshot", snapshot)))

    def list_snapshots(
        self, volume: VolumeId, call: Call, *, after: str | None = None, limit: int = 1000
    ) -> Page[Snapshot]:
        """See `Snapshots.list_snapshots`; a volume that does not exist has none."""
        page = self._agents.ask(
            "list-snapshots",
            call,
            volume=checked_id("volume", volume),
            after=after or "",
            limit=page_size(limit),
        )
        return Page(items=[snapshot_of(shown) for shown in page["items"]], after=page["after"])

    def locate_snapshot(self, snapshot: SnapshotId, call: Call) -> RbdLocation:
        """See `DirectSnapshotRead.locate_snapshot`. Its key can write nothing, and goes with the volume."""
        shown = self._agents.ask("locate-snapshot", call, snapshot=checked_id("snapshot", snapshot))
        return location_of(self.options, shown, read_only=True)

    def revert_volume(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Volume:
        """See `Reverts.revert_volume`."""
        name = checked_id("snapshot", snapshot)
        return volume_of(self._agents.ask("revert", call, volume=own_volume(volume), snapshot=name))

    def create_volume_from_snapshot(self, snapshot: SnapshotId, spec: VolumeSpec, call: Call) -> Volume:
        """See `VolumeFromSnapshot.create_volume_from_snapshot`."""
        source: dict[str, str] = {"snapshot": checked_id("snapshot", snapshot)}
        return self._created(spec, f"snapshot:{snapshot}", source, call)

    def changed(
        self, base: SnapshotId | None, target: SnapshotId, call: Call, *, start: int = 0
    ) -> Iterator[Extent]:
        """See `ChangedBlocks.changed`. The first page is asked for at once, so that errors come now."""
        arguments = {"base": base and checked_id("snapshot", base), "target": checked_id("snapshot", target)}
        first = self._agents.ask("changed", call, start=start, **arguments)
        return self._pages(first, arguments, call)

    def _pages(self, page: Mapping[str, Any], arguments: dict[str, Any], call: Call) -> Iterator[Extent]:
        while True:
            for offset, length, kind in page["extents"]:
                yield Extent(offset, length, ExtentKind(kind))
            if page["next"] is None:
                return
            page = self._agents.ask("changed", call, start=page["next"], **arguments)


def snapshot_of(shown: Mapping[str, Any]) -> Snapshot:
    """Return what the SPI calls a snapshot."""
    return Snapshot(
        id=SnapshotId(shown["id"]),
        volume=VolumeId(shown["volume"]),
        size=shown["size"],
        created=datetime.fromisoformat(shown["created"]),
        private={"version": VERSION},
    )
