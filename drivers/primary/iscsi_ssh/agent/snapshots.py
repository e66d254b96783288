"""Snapshots: reflinks that nobody writes to.

A volume's directory has a mark for each of its snapshots, made before the snapshot and removed after it, so
that a volume's list is found without looking at those of others. A mark without its snapshot means nothing.
"""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .errors import Refused, not_found
from .extents import changes
from .files import names_in, read_json, reflink, remove_tree, write_json
from .pool import VERSION, Pool, group_of


def show(place: Path) -> dict[str, Any]:
    """Return a snapshot as the driver is told of it."""
    meta = read_json(place / "meta.json")
    if meta is None:
        raise not_found(f"snapshot {place.name}")
    return {**meta, "size": (place / "data").stat().st_size}


def get(pool: Pool, snapshot: str) -> dict[str, Any]:
    """Return a snapshot."""
    return show(pool.existing_snapshot(snapshot))


def create(pool: Pool, volume: str, snapshot: str) -> dict[str, Any]:
    """Take a snapshot, or return the one that is there."""
    source, place = pool.existing_volume(volume), pool.snapshot(snapshot)
    if place.exists():
        found = show(place)
        if found["volume"] != volume:
            raise Refused("conflict", f"snapshot {snapshot} exists, of another volume than {volume}")
        return found
    if group_of(snapshot):
        raise Refused("invalid_argument", "this id is reserved for members of VM snapshots")
    pool.require_space(lambda: (source / "data").stat().st_size)
    draft = pool.draft(f"s-{snapshot}")
    reflink(source / "data", draft / "data")
    describe(draft, volume, snapshot)
    mark(source, snapshot)
    pool.commit(draft, place)
    return show(place)


def describe(draft: Path, volume: str, snapshot: str) -> None:
    """Write what stands beside a snapshot's bytes."""
    now = datetime.now(timezone.utc).isoformat()  # noqa: UP017 - arrays with a Python before 3.11
    write_json(draft / "meta.json", {"version": VERSION, "id": snapshot, "volume": volume, "created": now})
    (draft / "data").chmod(0o400)


def mark(volume: Path, snapshot: str) -> None:
    """Note at a volume that it has, or is about to have, a snapshot."""
    (volume / "snapshots" / snapshot).touch()


def delete(pool: Pool, snapshot: str) -> None:
    """Delete a snapshot; what is gone is fine."""
    place = pool.snapshot(snapshot)
    volume = show(place)["volume"] if place.exists() else ""
    pool.discard(place)
    if volume:
        (pool.volume(volume) / "snapshots" / snapshot).unlink(missing_ok=True)
    if group_of(snapshot) and not names_in(place.parent):
        remove_tree(place.parent)


def list_page(pool: Pool, volume: str, after: str, limit: int) -> dict[str, Any]:
    """Return a volume's snapshots behind a cursor; a volume that does not exist has none."""
    items: list[dict[str, Any]] = []
    for name in names_in(pool.volume(volume) / "snapshots"):
        if name <= after or not pool.snapshot(name).exists():
            continue
        if len(items) == limit:
            return {"items": items, "after": items[-1]["id"]}
        items.append(show(pool.snapshot(name)))
    return {"items": items, "after": None}


def changed(pool: Pool, base: str | None, target: str, start: int, limit: int) -> dict[str, Any]:
    """Return what differs between two snapshots, at most `limit` extents from `start` on."""
    place = pool.existing_snapshot(target)
    origin = pool.existing_snapshot(base) if base is not None else None
    if origin is not None and show(origin)["volume"] != show(place)["volume"]:
        raise Refused("invalid_argument", f"snapshot {base} is of another volume than {target}")
    found, following = changes(origin and origin / "data", place / "data", start, limit)
    return {"extents": found, "next": following}
