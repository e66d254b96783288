"""Snapshots in a catalog: one that is gone, one that others will be based on."""

from __future__ import annotations

from bollard.core.catalog import Catalog
from bollard.core.catalog.snapshots import Ref, RefEvent, SnapshotEvent, SnapshotRecord
from bollard.transfer_objects.enums import DataStoreRole


def record_snapshot(catalog: Catalog, volume: str, name: str, *, gone: bool) -> None:
    """Record a snapshot of a volume, with a ref that tracks by its checkpoint unless it is gone."""
    with catalog.transaction() as session:
        record = SnapshotRecord(id=name, volume=volume, created="2026-11-22T05:00:00.000+00:00")
        session.add(record)
        session.flush()
        ref = Ref(
            snapshot=name,
            volume=volume,
            store="sec",
            role=DataStoreRole.IMAGE,
            path=name,
            checkpoint=name,
            tracking=True,
        )
        session.add(ref)
        session.flush()
        if gone:
            record.take(SnapshotEvent.FAILED)
            ref.take(RefEvent.DESTROY_REQUESTED)
        else:
            record.take(SnapshotEvent.ON_SECONDARY)
        ref.take(RefEvent.SUCCEEDED)
