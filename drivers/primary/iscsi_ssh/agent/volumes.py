"""Volumes: sparse files, copies of others by reflink, and files of the pool that are taken over.

How a volume is made:

    tmp/v-ID: data, meta.json  ──rename──>  v/ID          <- the commit
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .errors import Refused, not_found
from .exports import refresh_luns
from .files import grow, names_in, new_file, read_json, reflink, sync, write_json
from .pool import VERSION, Pool, checked

_SUFFIX = ".raw"


def show(place: Path) -> dict[str, Any]:
    """Return a volume as the driver is told of it."""
    meta, data = read_json(place / "meta.json"), _stat(place / "data")
    if meta is None or data is None:
        raise not_found(f"volume {place.name}")
    return {**meta, "size": data.st_size, "allocated": data.st_blocks * 512, "path": str(place / "data")}


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def get(pool: Pool, volume: str) -> dict[str, Any]:
    """Return a volume."""
    return show(pool.existing_volume(volume))


def list_page(pool: Pool, after: str, limit: int) -> dict[str, Any]:
    """Return volumes, not the seeds of templates, behind a cursor, and whether there are more."""
    items: list[dict[str, Any]] = []
    for name in names_in(pool.home / "v"):
        if name <= after or not (found := _shown_if_there(pool, name)) or found["kind"] != "volume":
            continue
        if len(items) == limit:
            return {"items": items, "after": items[-1]["id"]}
        items.append(found)
    return {"items": items, "after": None}


def _shown_if_there(pool: Pool, name: str) -> dict[str, Any] | None:
    try:
        return show(pool.home / "v" / name)
    except Refused:  # deleted meanwhile
        return None


def create(
    pool: Pool, volume: str, size: int, name: str, origin: str, kind: str, source: str | None
) -> dict[str, Any]:
    """Make a volume, or return the one that is there if it has this size and origin.

    Args:
        pool: where.
        volume: its id.
        size: bytes.
        name: what humans call it.
        origin: what it is made from, in words that tell apart what must not be taken for a repeat.
        kind: "volume", or "template" for a seed.
        source: "volume:ID", "snapshot:ID" or "template:ID" to copy, or None.
    """
    place = pool.volume(volume)
    if place.exists():
        return _same(show(place), size, origin)
    data = _source(pool, source) if source else None
    if data is not None and size < data.stat().st_size:
        raise Refused("invalid_argument", f"a copy cannot be smaller than its {data.stat().st_size} bytes")
    if data is None:
        pool.require_space(lambda: size)  # a copy takes none before it is written; its grant for that asks
    draft = pool.draft(f"v-{volume}")
    if data is None:
        new_file(draft / "data", size)
    else:
        reflink(data, draft / "data")
        grow(draft / "data", size)
    _describe(draft, volume, name, origin, kind)
    pool.commit(draft, place)
    return show(place)


def _same(found: dict[str, Any], size: int, origin: str) -> dict[str, Any]:
    if (found["size"], found["origin"]) != (size, origin):
        raise Refused(
            "conflict", f"volume {found['id']} exists with {found['size']} bytes, of {found['origin']}"
        )
    return found


def _source(pool: Pool, source: str) -> Path:
    kind, _, name = source.partition(":")
    if kind == "snapshot":
        return pool.existing_snapshot(name) / "data"
    place = pool.existing_volume(name)
    if kind == "template" and not show(place)["sealed"]:
        raise Refused("not_found", "the template is not sealed")
    return place / "data"


def _describe(draft: Path, volume: str, name: str, origin: str, kind: str) -> None:
    (draft / "grants").mkdir()
    (draft / "snapshots").mkdir()
    meta = {
        "version": VERSION,
        "id": volume,
        "name": name,
        "origin": origin,
        "kind": kind,
        "sealed": False,
        # Random: a host that still knows the device of a deleted volume must not find another one there.
        "serial": os.urandom(16).hex(),
    }
    write_json(draft / "meta.json", meta)


def delete(pool: Pool, volume: str) -> None:
    """Delete a volume; what is gone is fine."""
    place = pool.volume(volume)
    if place.exists():
        refuse_granted(pool, place)
        refuse_snapshots(pool, place)
    pool.discard(place)


def refuse_granted(pool: Pool, place: Path) -> None:
    """Refuse what may not be done to a volume that a host has."""
    grants = pool.grants(place)
    if grants:
        raise Refused("in_use", f"volume {place.name} is granted to host {grants[0]['host']}")


def refuse_snapshots(pool: Pool, place: Path) -> None:
    """Refuse what may not be done to a volume with snapshots; marks of those that are gone do not count."""
    if any(pool.snapshot(name).exists() for name in names_in(place / "snapshots")):
        raise Refused("has_dependents", f"volume {place.name} has snapshots")


def resize(pool: Pool, volume: str, size: int) -> dict[str, Any]:
    """Grow a volume. Also one that has the size already: a try that died may not have told tgtd."""
    place = pool.existing_volume(volume)
    present = show(place)["size"]
    if size < present:
        raise Refused("invalid_argument", f"volume {volume} has {present} bytes and cannot shrink to {size}")
    if size > present:
        pool.require_space(lambda: size - present)
        grow(place / "data", size)
        _sync_file(place / "data")
    refresh_luns(pool, place)
    return show(place)


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def revert(pool: Pool, volume: str, snapshot: str) -> dict[str, Any]:
    """Put a volume back to one of its snapshots, with one rename."""
    place, cut = pool.existing_volume(volume), pool.existing_snapshot(snapshot)
    meta = read_json(cut / "meta.json") or {}
    if meta.get("volume") != volume:
        raise Refused("invalid_argument", f"snapshot {snapshot} is not of volume {volume}")
    refuse_granted(pool, place)
    draft = pool.draft(f"v-{volume}")
    reflink(cut / "data", draft / "data")
    (draft / "data").rename(place / "data")
    sync(place)
    draft.rmdir()
    return show(place)


def seal(pool: Pool, volume: str) -> None:
    """Let the seed of a template never be written again."""
    place = pool.existing_volume(volume)
    refuse_granted(pool, place)
    meta = read_json(place / "meta.json") or {}
    if not meta["sealed"]:
        write_json(place / "meta.json", {**meta, "sealed": True})
        sync(place)


# -- files of the pool ------------------------------------------------------------------------------------
#
#     POOL/disk.raw ──link──> tmp/v-ID/data ──rename──> v/ID/data, then POOL/disk.raw goes
#
# Until the last step the file has two names, and a crash loses neither.


def adopt(pool: Pool, native: str, volume: str, size: int, name: str) -> dict[str, Any]:
    """Take over the file POOL/`native`; its data stays where it is."""
    source, origin, place = _native(pool, native), f"adopted:{native}", pool.volume(volume)
    if place.exists():
        found = _same(show(place), size, origin)
        if not source.is_symlink() and source.exists() and source.samefile(place / "data"):
            _unlinked(pool, source)
        return found
    _check_native(pool, source, native, size)
    draft = pool.draft(f"v-{volume}")
    os.link(source, draft / "data", follow_symlinks=False)
    _describe(draft, volume, name, origin, "volume")
    pool.commit(draft, place)
    _unlinked(pool, source)
    return show(place)


def _native(pool: Pool, native: str) -> Path:
    if not native or native != os.path.basename(native) or native.startswith(".") or "\0" in native:  # noqa: PTH119 - a name, no path
        raise Refused("invalid_argument", "native_name must be the name of a file in the pool's directory")
    return pool.root / native


def _check_native(pool: Pool, source: Path, native: str, size: int) -> None:
    if source.is_symlink() or not source.is_file():
        ours = _adopted_as(pool, native)
        if ours:
            raise Refused("in_use", f"{native} is our volume {ours}")
        raise Refused("not_found", f"there is no file {native} in the pool")
    found = source.stat()
    if found.st_nlink > 1:
        raise Refused("in_use", f"{native} is a volume already, or has another name")
    if found.st_size != size:
        raise Refused("conflict", f"{native} has {found.st_size} bytes, not {size}")


def _adopted_as(pool: Pool, native: str) -> str:
    metas = (read_json(pool.home / "v" / name / "meta.json") for name in names_in(pool.home / "v"))
    return next((m["id"] for m in metas if m and m["origin"] == f"adopted:{native}"), "")


def _unlinked(pool: Pool, source: Path) -> None:
    source.unlink()
    sync(pool.root)


def release(pool: Pool, volume: str) -> str:
    """Give a volume back as a file of the pool; returns the file's name."""
    place = pool.volume(volume)
    native = f"{pool.owner}.{checked(volume, 'volume')}{_SUFFIX}"
    target = pool.root / native
    if not place.exists():
        if not target.exists():
            raise not_found(f"volume {volume}")
        return native
    refuse_snapshots(pool, place)
    refuse_granted(pool, place)
    if target.exists() and not target.samefile(place / "data"):
        raise Refused("conflict", f"there is a file {native} in the pool already")
    if not target.exists():
        os.link(place / "data", target)
        sync(pool.root)
    pool.discard(place)
    return native
