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
    InvalidArgument,
    Page,
    Reverts,
    Snapshot,
    Snapshots,
    Volume,
    VolumeFromSnapshot,
    VolumeSpec,
)
from ....transfer_objects.ids import ID_RULE, SnapshotId, VolumeId, is_valid_id
from .names import refuse_seed
from .pool import VERSION, checked_volume, volume_of
from .volumes import IscsiVolumes, page_size

_EXTENTS = 20_000  # per request: some 600 KB of JSON


class IscsiSnapshots(IscsiVolumes, Snapshots, Reverts, VolumeFromSnapshot, ChangedBlocks):
    """A snapshot is a file of its own, which shares its blocks with the volume and depends on nothing."""

    def create_snapshot(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Snapshot:
        """See `Snapshots.create_snapshot`."""
        refuse_seed(checked_volume(volume))
        return snapshot_of(self._array.ask("snapshot", call, volume=volume, snapshot=_checked(snapshot)))

    def delete_snapshot(self, snapshot: SnapshotId, call: Call) -> None:
        """See `Snapshots.delete_snapshot`."""
        self._array.ask("delete-snapshot", call, snapshot=_checked(snapshot))

    def get_snapshot(self, snapshot: SnapshotId, call: Call) -> Snapshot:
        """See `Snapshots.get_snapshot`."""
        return snapshot_of(self._array.ask("get-snapshot", call, snapshot=_checked(snapshot)))

    def list_snapshots(
        self, volume: VolumeId, call: Call, *, after: str | None = None, limit: int = 1000
    ) -> Page[Snapshot]:
        """See `Snapshots.list_snapshots`; a volume that does not exist has none."""
        page = self._array.ask(
            "list-snapshots", call, volume=checked_volume(volume), after=after or "", limit=page_size(limit)
        )
        return Page(items=[snapshot_of(shown) for shown in page["items"]], after=page["after"])

    def revert_volume(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Volume:
        """See `Reverts.revert_volume`."""
        refuse_seed(checked_volume(volume))
        return volume_of(self._array.ask("revert", call, volume=volume, snapshot=_checked(snapshot)))

    def create_volume_from_snapshot(self, snapshot: SnapshotId, spec: VolumeSpec, call: Call) -> Volume:
        """See `VolumeFromSnapshot.create_volume_from_snapshot`."""
        source = f"snapshot:{_checked(snapshot)}"
        return self._created(spec, source, source, call)

    def changed(
        self, base: SnapshotId | None, target: SnapshotId, call: Call, *, start: int = 0
    ) -> Iterator[Extent]:
        """See `ChangedBlocks.changed`. The first page is asked for at once, so that errors come now."""
        arguments = {"base": base and _checked(base), "target": _checked(target), "limit": _EXTENTS}
        first = self._array.ask("changed", call, start=start, **arguments)
        return self._pages(first, arguments, call)

    def _pages(self, page: Mapping[str, Any], arguments: dict[str, Any], call: Call) -> Iterator[Extent]:
        while True:
            for offset, length, kind in page["extents"]:
                yield Extent(offset, length, ExtentKind(kind))
            if page["next"] is None:
                return
            page = self._array.ask("changed", call, start=page["next"], **arguments)


def _checked(snapshot: SnapshotId) -> SnapshotId:
    if not is_valid_id(snapshot):
        raise InvalidArgument(f"snapshot id {snapshot!r} is not valid: {ID_RULE}")
    return snapshot


def snapshot_of(shown: Mapping[str, Any]) -> Snapshot:
    """Return what the SPI calls a snapshot."""
    return Snapshot(
        id=SnapshotId(shown["id"]),
        volume=VolumeId(shown["volume"]),
        size=shown["size"],
        created=datetime.fromisoformat(shown["created"]),
        private={"version": VERSION},
    )
