"""Snapshots: one volume or several at one instant, and what changed between two."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from itertools import islice

from . import rules
from .chunkmap import ChunkMap
from .core import Core, Json, Query, new_id, whole_number
from .defects import Defect
from .errors import ArrayError, invalid
from .jobs import Jobs
from .slots import CHUNK
from .volumes import Volumes

_TORN_SECONDS = 0.05  # between the cuts of a torn group: time for a writer to be seen


class Snapshots:
    """The snapshots of the array."""

    def __init__(self, core: Core, jobs: Jobs, volumes: Volumes) -> None:
        self._core = core
        self._jobs = jobs
        self._volumes = volumes

    def get(self, snapshot_id: str) -> Json:
        """One snapshot."""
        return self._show(self._core.find("snapshots", snapshot_id))

    def search(self, arguments: dict[str, str], volume_id: str | None = None) -> Json:
        """Snapshots of all volumes, or of one."""
        query = Query(arguments, {"name": "name", "group": "grp"})
        if volume_id is not None:
            self._core.find("volumes", volume_id)
            query.where("volume = ?", volume_id)
        return self._core.page("snapshots", query, self._show)

    def _show(self, row: sqlite3.Row) -> Json:
        held, defects = len(self._chunks(row).slots()) * CHUNK, self._core.defects
        return {
            **{key: row[key] for key in ("id", "name", "volume", "pool")},
            "size": 0 if Defect.SNAPSHOT_SIZE_ZERO in defects else row["size"],
            "allocated_bytes": held,
            "created_at": self._core.now() if Defect.SNAPSHOT_TIME_MOVES in defects else row["created"],
            "metadata": json.loads(row["metadata"]),
            "group": row["grp"],
        }

    def _chunks(self, row: sqlite3.Row) -> ChunkMap:
        if Defect.SNAPSHOT_NOT_POINT_IN_TIME in self._core.defects:
            return self._chunks_of_today(row)
        return self._core.store.snapshots[row["id"]].chunks

    def _chunks_of_today(self, row: sqlite3.Row) -> ChunkMap:
        volume = self._core.store.volumes[row["volume"]]
        with volume.lock:
            return volume.chunks.copy()

    # -- making ----------------------------------------------------------------------------------------------

    def create(self, volume_id: str, body: Json) -> Json:
        """A snapshot of one volume, of this instant."""
        rules.check_keys(body, ("name",), ("metadata",))
        return self._cut([volume_id], rules.name(body), rules.metadata(body), None)[0]

    def create_group(self, body: Json) -> Json:
        """Snapshots of several volumes, all of the same instant: writes wait meanwhile."""
        rules.check_keys(body, ("name", "volumes"), ("metadata",))
        name, metadata, group = rules.name(body), rules.metadata(body), new_id("gsnap")
        chosen = rules.texts(body, "volumes", 64)
        if not chosen:
            raise invalid("volumes", "must not be empty")
        if Defect.GROUP_SNAPSHOT_TORN in self._core.defects:
            made = [self._cut_late(volume_id, name, metadata, group) for volume_id in chosen]
        else:
            made = self._cut(chosen, name, metadata, group)
        return {"id": group, "name": name, "snapshots": made}

    def _cut_late(self, volume_id: str, name: str, metadata: dict[str, str], group: str) -> Json:
        (made,) = self._cut([volume_id], name, metadata, group)
        time.sleep(_TORN_SECONDS)
        return made

    def _cut(self, chosen: list[str], name: str, metadata: dict[str, str], group: str | None) -> list[Json]:
        core = self._core
        with core.db.transaction():
            for volume_id in chosen:
                core.find("volumes", volume_id, "volumes" if group else None)
                self._jobs.refuse_busy(volume_id)
                self._refuse(volume_id, name)
            with core.store.frozen(chosen):
                made = [self._record(volume_id, name, metadata, group) for volume_id in chosen]
            return [self.get(snapshot_id) for snapshot_id in made]

    def _refuse(self, volume_id: str, name: str) -> None:
        db = self._core.db
        if db.one("SELECT 1 FROM snapshots WHERE volume = ? AND name = ?", volume_id, name):
            raise ArrayError("name_exists", f"volume {volume_id} has a snapshot {name!r}", "name")
        if db.number("SELECT COUNT(*) FROM snapshots WHERE volume = ?", volume_id) >= rules.MAX_SNAPSHOTS:
            raise ArrayError("limit_exceeded", f"volume {volume_id} has {rules.MAX_SNAPSHOTS} snapshots")

    def _record(self, volume_id: str, name: str, metadata: dict[str, str], group: str | None) -> str:
        core, snapshot_id = self._core, new_id("snap")
        volume = core.find("volumes", volume_id)
        kept = {} if Defect.PRIVATE_METADATA_LOST in core.defects else metadata
        core.db.run(
            "INSERT INTO snapshots (id, name, volume, pool, size, metadata, grp, created)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            *(snapshot_id, name, volume_id, volume["pool"], volume["size"]),
            *(json.dumps(kept), group, core.now()),
        )
        core.store.add_snapshot(snapshot_id, volume_id)
        if Defect.SNAPSHOT_MUTABLE in core.defects:
            core.db.run("UPDATE volumes SET shares_blocks = 1 WHERE id = ?", volume_id)
            core.store.volumes[volume_id].shares_blocks = True
        return snapshot_id

    def clone(self, snapshot_id: str, body: Json) -> Json:
        """A new volume from a snapshot: a job."""
        with self._core.db.transaction():
            row = self._core.find("snapshots", snapshot_id)
            current = Defect.SNAPSHOT_CLONE_IS_CURRENT in self._core.defects
            chunks = self._chunks_of_today(row) if current else self._chunks(row)
            return self._volumes.clone_snapshot(row, chunks, body)

    def delete(self, snapshot_id: str) -> None:
        """Remove a snapshot; what others share with it stays."""
        core = self._core
        with core.db.transaction():
            doomed = [row := core.find("snapshots", snapshot_id)]
            if Defect.DELETE_SAYS_OK_BUT_KEEPS in core.defects:
                return
            if Defect.SNAPSHOT_DELETE_DELETES_ALL in core.defects:
                doomed = core.db.all("SELECT * FROM snapshots WHERE volume = ?", row["volume"])
            for one in doomed:
                if Defect.DELETE_LEAKS_SPACE in core.defects:
                    core.store.leak(one["id"], one["pool"])
                core.db.run("DELETE FROM snapshots WHERE id = ?", one["id"])
                core.store.remove_snapshot(one["id"])

    # -- changed blocks --------------------------------------------------------------------------------------

    def changes(self, snapshot_id: str, arguments: dict[str, str]) -> Json:
        """Extents that differ between a base snapshot (or nothing) and this one, from an offset on."""
        for key in arguments:
            if key not in {"base", "start", "limit"}:
                raise invalid(key, "is not known here")
        row = self._core.find("snapshots", snapshot_id)
        start = whole_number(arguments, "start", 0, 0, row["size"])
        limit = whole_number(arguments, "limit", 1000, 1, rules.MAX_CHANGES)
        base = self._base(row, arguments["base"]) if "base" in arguments else None
        first, end = start // CHUNK, -(-row["size"] // CHUNK)
        changed = self._chunks(row).differences(base, first, end) if start < row["size"] else iter(())
        if Defect.CHANGED_REPORTS_ALL in self._core.defects:
            changed = ((chunk, False) for chunk in range(first, end))
        found = list(islice(_extents(changed, start, row["size"]), limit + 1))
        return {
            "chunk_bytes": CHUNK,
            "size": row["size"],
            "next_start": found[limit]["offset"] if len(found) > limit else None,
            "extents": self._spoiled(found[:limit], last=len(found) <= limit),
        }

    def _base(self, row: sqlite3.Row, base_id: str) -> ChunkMap:
        base = self._core.find("snapshots", base_id, "base")
        if base["volume"] != row["volume"]:
            raise invalid("base", "is a snapshot of another volume")
        return self._chunks(base)

    def _spoiled(self, extents: list[Json], *, last: bool) -> list[Json]:
        defects = self._core.defects
        if extents and last and Defect.CHANGED_MISSES_BLOCKS in defects:
            tail = extents[-1]
            shorter = {**tail, "length": tail["length"] - CHUNK}
            extents = extents[:-1] + ([shorter] if shorter["length"] > 0 else [])
        if extents and last and Defect.CHANGED_PAST_END in defects:
            extents = [*extents[:-1], {**extents[-1], "length": extents[-1]["length"] + (1 << 46)}]
        return extents[::-1] if Defect.CHANGED_UNSORTED in defects else extents


def _extents(changed: Iterator[tuple[int, bool]], start: int, size: int) -> Iterator[Json]:
    """Chunks as extents: neighbours of a kind joined, cut at ``start`` and ``size``."""
    first, number, zero = 0, 0, False
    for chunk, unmapped in changed:
        if number and (chunk != first + number or unmapped != zero):
            yield _extent(first, number, start, size, zero=zero)
            number = 0
        if not number:
            first, zero = chunk, unmapped
        number += 1
    if number:
        yield _extent(first, number, start, size, zero=zero)


def _extent(first: int, number: int, start: int, size: int, *, zero: bool) -> Json:
    offset, end = max(start, first * CHUNK), min(size, (first + number) * CHUNK)
    return {"offset": offset, "length": end - offset, "zero": zero}
