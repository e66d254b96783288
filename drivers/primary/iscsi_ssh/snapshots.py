"""Snapshots: reflinks of a volume's file; what changed between two, from their extent maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from ....core.spi import (
    Call,
    ChangedBlocks,
    Extent,
    ExtentKind,
    Page,
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
from .volumes import IscsiVolumes, page_size

_EXTENTS = 20_000  # per request: some 600 KB of JSON


class IscsiSnapshots(IscsiVolumes, Snapshots, Reverts, VolumeFromSnapshot, ChangedBlocks):
    """A snapshot is a file of its own, which shares its blocks with the volume and depends on nothing."""

    def create_snapshot(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Snapshot:
        """See `Snapshots.create_snapshot`."""
        name = checked_id("snapshot", snapshot)
        return snapshot_of(self._array.ask("snapshot", call, volume=own_volume(volume), snapshot=name))

    def delete_snapshot(self, snapshot: SnapshotId, call: Call) -> None:
        """See `Snapshots.delete_snapshot`."""
        self._array.ask("delete-snapshot", call, snapshot=checked_id("snapshot", snapshot))

    def get_snapshot(self, snapshot: SnapshotId, call: Call) -> Snapshot:
        """See `Snapshots.get_snapshot`."""
        return snapshot_of(self._array.ask("get-snapshot", call, snapshot=checked_id("snapshot", snapshot)))

    def list_snapshots(
        self, volume: VolumeId, call: Call, *, after: str | None = None, limit: int = 1000
    ) -> Page[Snapshot]:
        """See `Snapshots.list_snapshots`; a volume that does not exist has none."""
        page = self._array.ask(
            "list-snapshots",
            call,
            volume=checked_id("volume", volume),
            after=after or "",
            limit=page_size(limit),
        )
        return Page(items=[snapshot_of(shown) for shown in page["items"]], after=page["after"])

    def revert_volume(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Volume:
        """See `Reverts.revert_volume`."""
        name = checked_id("snapshot", snapshot)
        return volume_of(self._array.ask("revert", call, volume=own_volume(volume), snapshot=name))

    def create_volume_from_snapshot(self, snapshot: SnapshotId, spec: VolumeSpec, call: Call) -> Volume:
        """See `VolumeFromSnapshot.create_volume_from_snapshot`."""
        source = "snapshot:" + checked_id("snapshot", snapshot)
        return self._created(spec, source, source, call)

    def changed(
        self, base: SnapshotId | None, target: SnapshotId, call: Call, *, start: int = 0
    ) -> Iterator[Extent]:
        """See `ChangedBlocks.changed`. The first page is asked for at once, so that errors come now."""
        arguments = {
            "base": base and checked_id("snapshot", base),
            "target": checked_id("snapshot", target),
            "limit": _EXTENTS,
        }
        first = self._array.ask("changed", call, start=start, **arguments)
        return self._pages(first, arguments, call)

    def _pages(self, page: Mapping[str, Any], arguments: dict[str, Any], call: Call) -> Iterator[Extent]:
        while True:
            for offset, length, kind in page["extents"]:
                yield Extent(offset, length, ExtentKind(kind))
            if page["next"] is None:
                return
            page = self._array.ask("changed", call, start=page["next"], **arguments)


def snapshot_of(shown: Mapping[str, Any]) -> Snapshot:
    """Return what the SPI calls a snapshot."""
    return Snapshot(
        id=SnapshotId(shown["id"]),
        volume=VolumeId(shown["volume"]),
        size=shown["size"],
        created=datetime.fromisoformat(shown["created"]),
        private={"version": VERSION},
    )
