"""Volumes and the seeds of templates.

    (none) ── making ── ready ── deleting ── (none)
                         └─ reverting, growing: finished by whoever takes the lock next

Only what is ready is seen. Whatever is to be done is in the record before it is begun.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import rbd

from . import images
from .cluster import FEATURES, Cluster
from .errors import Refused, not_found
from .locks import held
from .records import Record, Records

READY, MAKING, DELETING = "ready", "making", "deleting"
_SEED = re.compile(r"template-[0-9a-f]{40}")
_PATIENCE = 20.0  # seconds to wait for another call's lock


@dataclass(frozen=True)
class Pool:
    """What every act works on."""

    cluster: Cluster
    records: Records
    seconds: float

    @contextmanager
    def locked(self, *names: str) -> Iterator[None]:
        """Hold the locks of objects for as long as the caller has time."""
        with held(self.cluster, *names, seconds=min(_PATIENCE, self.seconds * 0.8)):
            yield


def key_of(volume: str) -> str:
    """Return where the record of a volume or seed lies."""
    return f"t/{volume}" if _SEED.fullmatch(volume) else f"v/{volume}"


def ready(pool: Pool, volume: str) -> Record:
    """Return the record of a volume that exists."""
    record = pool.records.get(key_of(volume))
    if record is None or record["state"] != READY:
        raise not_found(f"volume {volume}")
    return record


def settled(pool: Pool, volume: str) -> Record:
    """Return the record of a volume after finishing what a crash has left; call under its lock."""
    record = ready(pool, volume)
    if "revert" in record:
        record = roll_back(pool, volume, record)
    if "grow" in record:
        record = _grow(pool, volume, record)
    return record


def shown(volume: str, record: Record) -> dict[str, Any]:
    """Return a volume as the driver reads it."""
    return {"id": volume, **{key: record[key] for key in ("size", "name", "identity", "image")}}


def get(pool: Pool, volume: str) -> dict[str, Any]:
    """Return a volume or seed."""
    return shown(volume, ready(pool, volume))


def list_page(pool: Pool, after: str, limit: int) -> dict[str, Any]:
    """Return a page of volumes."""
    items: list[dict[str, Any]] = []
    for volume, record in pool.records.scan("v/", after):
        if record["state"] != READY:
            continue
        if len(items) == limit:
            return {"items": items, "after": items[-1]["id"]}
        items.append(shown(volume, record))
    return {"items": items, "after": None}


def create(
    pool: Pool, volume: str, size: int, name: str, origin: str, source: dict[str, str] | None
) -> dict[str, Any]:
    """Make a volume unless it is there.

    Args:
        pool: where.
        volume: its id.
        size: in bytes.
        name: for people.
        origin: what it is made from; one of another origin is a conflict.
        source: {"volume": ...}, {"snapshot": ...} or {"template": ...} to clone, None for an empty one.
    """
    with pool.locked(f"volume:{volume}", *_lock_of(pool, source)):
        record = pool.records.get(key_of(volume))
        if record is not None and record["state"] == READY:
            _require_same(volume, settled(pool, volume), size, origin)
            return shown(volume, ready(pool, volume))
        if record is not None:
            _discard(pool, volume, record)
        pool.cluster.require_space()
        return shown(volume, _make(pool, volume, size, name, origin, source))


def _lock_of(pool: Pool, source: dict[str, str] | None) -> list[str]:
    """Return the lock of the volume that is cloned, so that it stays as it is meanwhile."""
    if source is None:
        return []
    if "snapshot" in source:
        found = pool.records.get(f"s/{source['snapshot']}")
        return [f"volume:{found['volume']}"] if found else []
    return [f"volume:{next(iter(source.values()))}"]


def _require_same(volume: str, record: Record, size: int, origin: str) -> None:
    if (record["asked"], record["origin"]) != (size, origin):
        raise Refused("conflict", f"volume {volume} exists with another size or origin")


def _make(
    pool: Pool, volume: str, size: int, name: str, origin: str, source: dict[str, str] | None
) -> Record:
    parent, snapshot, temporary = _parent(pool, source, size)
    image = images.new_name(pool.cluster, volume)
    record = {"state": MAKING, "image": image, "size": size, "asked": size, "name": name, "origin": origin}
    if temporary:
        snapshot = image
        record["cut"] = [parent, snapshot]
    pool.records.put({key_of(volume): record, f"r/{volume}": None})
    if not parent:
        images.create_empty(pool.cluster, image, size)
    else:
        if temporary:
            images.cut(pool.cluster, parent, snapshot)
        images.create_clone(pool.cluster, parent, snapshot, image, size)
    identity = images.mark(pool.cluster, image, volume)
    if temporary:
        images.drop_snapshot(pool.cluster, parent, snapshot)
        del record["cut"]
    record |= {"state": READY, "identity": identity}
    pool.records.put({key_of(volume): record})
    return record


def _parent(pool: Pool, source: dict[str, str] | None, size: int) -> tuple[str, str, bool]:
    """Return image and snapshot to clone, and whether the snapshot is to be made for it."""
    if source is None:
        return "", "", False
    if "snapshot" in source:
        snapshot = pool.records.get(f"s/{source['snapshot']}")
        if snapshot is None or snapshot["state"] != READY:
            raise not_found(f"snapshot {source['snapshot']}")
        _require_room(snapshot["size"], size)
        return ready(pool, snapshot["volume"])["image"], source["snapshot"], False
    if "template" in source:
        seed = settled(pool, source["template"])
        if "sealed" not in seed:
            raise not_found("a sealed template of that id")
        _require_room(seed["size"], size)
        return seed["image"], seed["sealed"], False
    record = settled(pool, source["volume"])
    _require_room(record["size"], size)
    return record["image"], "", True


def _require_room(least: int, size: int) -> None:
    if size < least:
        raise Refused("invalid_argument", f"size must be at least that of the source, {least}, got {size}")


def _discard(pool: Pool, volume: str, record: Record) -> None:
    """Remove what a volume is made of, however far it came, and then its record."""
    if "cut" in record:
        images.drop_snapshot(pool.cluster, *record["cut"])
    if "native" not in record or record["state"] == DELETING:
        images.remove(pool.cluster, pool.records, record["image"])
    pool.records.put({key_of(volume): None})


def delete(pool: Pool, volume: str) -> None:
    """Delete a volume or seed."""
    with pool.locked(f"volume:{volume}"):
        record = pool.records.get(key_of(volume))
        if record is not None:
            if record["state"] == READY:
                record = _condemned(pool, volume, record)
            for entity in record.get("readers", []):
                pool.cluster.mon("auth rm", entity=entity)
            _discard(pool, volume, record)
    images.empty_trash(pool.cluster, pool.records)


def _condemned(pool: Pool, volume: str, record: Record) -> Record:
    if any(True for _ in pool.records.scan(f"g/{volume}/")):
        raise Refused("in_use", f"volume {volume} is granted to a host")
    if any(True for _ in pool.records.scan(f"l/{volume}/")):
        raise Refused("has_dependents", f"volume {volume} has snapshots")
    if "sealed" in record:
        # Its volumes keep what they need, in the trash.
        images.drop_snapshot(pool.cluster, record["image"], record["sealed"])
    record = {**record, "state": DELETING}
    pool.records.put({key_of(volume): record})
    return record


def resize(pool: Pool, volume: str, size: int) -> dict[str, Any]:
    """Grow a volume."""
    with pool.locked(f"volume:{volume}"):
        record = settled(pool, volume)
        if size < record["size"]:
            raise Refused("invalid_argument", f"size must be at least {record['size']}, got {size}")
        if size > record["size"]:
            pool.cluster.require_space()
            record = {**record, "grow": size}
            pool.records.put({key_of(volume): record})
            record = _grow(pool, volume, record)
        return shown(volume, record)


def _grow(pool: Pool, volume: str, record: Record) -> Record:
    with images.opened(pool.cluster, record["image"]) as image:
        if image.size() < record["grow"]:
            image.resize(record["grow"])
    record = {**record, "size": record["grow"], "asked": record["grow"]}
    del record["grow"]
    pool.records.put({key_of(volume): record})
    return record


def roll_back(pool: Pool, volume: str, record: Record) -> Record:
    """Put a volume back to the snapshot that its record names."""
    with images.opened(pool.cluster, record["image"]) as image:
        image.rollback_to_snap(record["revert"])
        size = image.size()
    record = {**record, "size": size, "asked": size}
    del record["revert"]
    pool.records.put({key_of(volume): record})
    return record


def seal(pool: Pool, volume: str) -> None:
    """Make a seed what volumes are cloned from."""
    with pool.locked(f"volume:{volume}"):
        record = settled(pool, volume)
        if "sealed" in record:
            return
        if any(True for _ in pool.records.scan(f"g/{volume}/")):
            raise Refused("in_use", "a host still writes the template")
        images.cut(pool.cluster, record["image"], "sealed")
        pool.records.put({key_of(volume): {**record, "sealed": "sealed"}})


def adopt(pool: Pool, native: str, volume: str, size: int, name: str) -> dict[str, Any]:
    """Take an image of the pool over; its data and its name stay."""
    with pool.locked(f"volume:{volume}", f"image:{native}"):
        record = pool.records.get(key_of(volume))
        if record is not None and record["state"] == READY:
            if (record["image"], record["size"]) != (native, size):
                raise Refused("conflict", f"volume {volume} exists and is something else")
            return shown(volume, record)
        if record is not None:
            _discard(pool, volume, record)
        _require_free(pool, native, volume, size)
        record = {"state": MAKING, "image": native, "native": True, "size": size, "asked": size}
        record |= {"name": name, "origin": "adopted"}
        pool.records.put({key_of(volume): record, f"r/{volume}": None})
        record |= {"state": READY, "identity": images.mark(pool.cluster, native, volume)}
        pool.records.put({key_of(volume): record})
        return shown(volume, record)


def _require_free(pool: Pool, native: str, volume: str, size: int) -> None:
    try:
        with images.opened(pool.cluster, native, read_only=True) as image:
            owner, _, other = images.marked(image).partition("/")
            found, features = image.size(), image.features()
    except rbd.ImageNotFound as error:
        raise not_found(f"image {native!r}") from error
    if owner and owner != pool.cluster.owner:
        raise Refused("in_use", f"image {native!r} is another owner's")
    held_by = pool.records.get(key_of(other)) if other and other != volume else None
    if held_by is not None and held_by["image"] == native:
        raise Refused("in_use", f"image {native!r} is volume {other}")
    if found != size:
        raise Refused("conflict", f"image {native!r} has {found} bytes, not {size}")
    if features & FEATURES != FEATURES:
        raise Refused(
            "unsupported", f"image {native!r} needs the features that `rbd create` gives by default"
        )


def release(pool: Pool, volume: str) -> str:
    """Give an image back; return its name, again and again for as long as nobody else has it."""
    with pool.locked(f"volume:{volume}"):
        if (name := _released(pool, volume)) is not None:
            return name
        record = settled(pool, volume)
        if any(True for _ in pool.records.scan(f"g/{volume}/")):
            raise Refused("in_use", f"volume {volume} is granted to a host")
        if any(True for _ in pool.records.scan(f"l/{volume}/")):
            raise Refused("has_dependents", f"volume {volume} has snapshots")
        images.unmark(pool.cluster, record["image"])
        pool.records.put({key_of(volume): None, f"r/{volume}": {"image": record["image"]}})
        return str(record["image"])


def _released(pool: Pool, volume: str) -> str | None:
    """Return the name of an image that was this volume, if the volume is gone and the image is nobody's."""
    record = pool.records.get(f"r/{volume}")
    if record is None or pool.records.get(key_of(volume)) is not None:
        return None
    try:
        with images.opened(pool.cluster, record["image"], read_only=True) as image:
            return None if images.marked(image) else str(record["image"])
    except rbd.ImageNotFound:
        return None
