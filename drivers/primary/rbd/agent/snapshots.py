"""Snapshots of one volume, and what differs between two."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import rbd

from . import images
from .errors import Refused, not_found
from .records import Record
from .volumes import DELETING, MAKING, READY, Pool, key_of, ready, roll_back, settled, shown

# What one answer covers at most: so many bytes of the volume are asked for at a time, until there are so many
# extents. Extents of 4 KiB in each second block give 131,072 per GiB, or 4 MB of JSON.
_WINDOW = 1 << 30
_EXTENTS = 20_000


def snapshot_shown(snapshot: str, record: Record) -> dict[str, Any]:
    """Return a snapshot as the driver reads it."""
    return {"id": snapshot, **{key: record[key] for key in ("volume", "size", "created")}}


def _require_unclaimed(snapshot: str, volume: str, record: Record | None) -> None:
    """Refuse an id that another volume's snapshot has."""
    if record is not None and record["volume"] != volume:
        raise Refused("conflict", f"snapshot {snapshot} is of volume {record['volume']}")


def create(pool: Pool, volume: str, snapshot: str) -> dict[str, Any]:
    """Take a snapshot unless it is there."""
    with pool.locked(f"snapshot:{snapshot}", f"volume:{volume}"):
        settled(pool, volume)
        record = pool.records.get(f"s/{snapshot}")
        _require_unclaimed(snapshot, volume, record)
        if record is not None and record["state"] == READY:
            return snapshot_shown(snapshot, record)
        pool.cluster.require_space()
        record = {"state": MAKING, "volume": volume}
        pool.records.put({f"s/{snapshot}": record, f"l/{volume}/{snapshot}": {}})
        record |= {"size": images.cut(pool.cluster, ready(pool, volume)["image"], snapshot)}
        record |= {"state": READY, "created": datetime.now(UTC).isoformat()}
        pool.records.put({f"s/{snapshot}": record})
        return snapshot_shown(snapshot, record)


def delete(pool: Pool, snapshot: str) -> None:
    """Delete a snapshot; volumes made from it stay."""
    found = pool.records.get(f"s/{snapshot}")
    if found is None:
        return
    with pool.locked(f"snapshot:{snapshot}", f"volume:{found['volume']}"):
        record = pool.records.get(f"s/{snapshot}")
        if record is None or record["volume"] != found["volume"]:
            return
        _drop(pool, snapshot, record)
    images.empty_trash(pool.cluster, pool.records)


def _drop(pool: Pool, snapshot: str, record: Record) -> None:
    pool.records.put({f"s/{snapshot}": {**record, "state": DELETING}})
    volume = pool.records.get(key_of(record["volume"]))
    if volume is not None:
        if volume["state"] == READY:
            volume = settled(pool, record["volume"])
        images.drop_snapshot(pool.cluster, volume["image"], snapshot)
    pool.records.put({f"s/{snapshot}": None, f"l/{record['volume']}/{snapshot}": None})


def record_of(pool: Pool, snapshot: str) -> Record:
    """Return the record of a snapshot that exists."""
    record = pool.records.get(f"s/{snapshot}")
    if record is None or record["state"] != READY:
        raise not_found(f"snapshot {snapshot}")
    return record


def get(pool: Pool, snapshot: str) -> dict[str, Any]:
    """Return a snapshot."""
    return snapshot_shown(snapshot, record_of(pool, snapshot))


def list_page(pool: Pool, volume: str, after: str, limit: int) -> dict[str, Any]:
    """Return a page of a volume's snapshots."""
    items: list[dict[str, Any]] = []
    for snapshot, _ in pool.records.scan(f"l/{volume}/", after):
        record = pool.records.get(f"s/{snapshot}")
        if record is None or record["state"] != READY:
            continue
        if len(items) == limit:
            return {"items": items, "after": items[-1]["id"]}
        items.append(snapshot_shown(snapshot, record))
    return {"items": items, "after": None}


def revert(pool: Pool, volume: str, snapshot: str) -> dict[str, Any]:
    """Put a volume back. The record says so first, and whoever uses the volume next finishes it."""
    with pool.locked(f"snapshot:{snapshot}", f"volume:{volume}"):
        record = settled(pool, volume)
        if record_of(pool, snapshot)["volume"] != volume:
            raise Refused("invalid_argument", f"snapshot {snapshot} is not of volume {volume}")
        if any(True for _ in pool.records.scan(f"g/{volume}/")):
            raise Refused("in_use", f"volume {volume} is granted to a host")
        pool.cluster.require_space()
        record = {**record, "revert": snapshot}
        pool.records.put({key_of(volume): record})
        return shown(volume, roll_back(pool, volume, record))


def changed(pool: Pool, base: str | None, target: str, start: int) -> dict[str, Any]:
    """Return a page of what differs, and where the next one begins."""
    record = record_of(pool, target)
    if base is not None and record_of(pool, base)["volume"] != record["volume"]:
        raise Refused("invalid_argument", f"snapshot {base} is of another volume than {target}")
    extents: list[tuple[int, int, str]] = []

    def seen(offset: int, length: int, exists: bool) -> None:  # noqa: FBT001 - librbd calls it
        extents.append((offset, length, "data" if exists else "hole"))

    name, size, at = ready(pool, record["volume"])["image"], record["size"], start
    try:
        with images.opened(pool.cluster, name, snapshot=target) as image:
            while at < size and len(extents) < _EXTENTS:
                length = min(_WINDOW - at % _WINDOW, size - at)
                # Exact bytes, not whole objects; a clone's parent counts as far as it is seen.
                image.diff_iterate(at, length, base, seen, include_parent=True, whole_object=False)
                at += length
    except rbd.ImageNotFound as error:
        raise not_found(f"snapshot {target} or {base}") from error
    return {"extents": extents, "next": at if at < size else None}
