"""All maps of the array in memory, and the transactions that keep them equal to the database.

::

    volumes    id -> LiveVolume (map changes, committed on flush)
    snapshots  id -> SnapshotMap (never changes)
    map_pages  owner, page -> slots       owner = a volume's or snapshot's id, or "leaked:..." (a defect)

Start: every page is read, references are recounted, pages without an owner go: a crash leaks nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from .chunkmap import ChunkMap
from .database import Database
from .livevolume import LiveVolume
from .slots import CHUNK, SlotPool

_LEAKED = "leaked:"


@dataclass(frozen=True, slots=True)
class SnapshotMap:
    """The frozen bytes of a volume."""

    size: int
    chunks: ChunkMap
    pool: SlotPool


class Store:
    """Maps and slots. Every method that changes something runs inside the caller's transaction.

    Args:
        database: where the maps are kept.
        directory: one sub-directory with a data file per pool.
        capacities: pool name to bytes.
    """

    def __init__(self, database: Database, directory: Path, capacities: dict[str, int]) -> None:
        self._db = database
        self.pools: dict[str, SlotPool] = {}
        self.volumes: dict[str, LiveVolume] = {}
        self.snapshots: dict[str, SnapshotMap] = {}
        for name, capacity in capacities.items():
            (directory / name).mkdir(parents=True, exist_ok=True, mode=0o700)
            self.pools[name] = SlotPool(directory / name / "data", capacity)
        self._load()

    def close(self) -> None:
        """Commit what the volumes still hold and close the data files."""
        with self._db.transaction():
            for volume in self.volumes.values():
                self.commit(volume)
        for pool in self.pools.values():
            pool.close()

    def _load(self) -> None:
        self._db.run(
            "DELETE FROM map_pages WHERE owner NOT IN (SELECT id FROM volumes UNION SELECT id FROM snapshots)"
            " AND owner NOT LIKE 'leaked:%'"
        )
        for row in self._db.all("SELECT * FROM volumes"):
            volume = self._add_volume(row["id"], row["pool"], row["export_size"], self._stored_map(row["id"]))
            volume.shares_blocks = bool(row["shares_blocks"])
            volume.limiter.set(json.loads(row["qos"]))
        for row in self._db.all("SELECT id, pool, size FROM snapshots"):
            pool = self.pools[row["pool"]]
            self.snapshots[row["id"]] = SnapshotMap(row["size"], self._stored_map(row["id"]), pool)
        for volume in self.volumes.values():
            volume.pool.retain(volume.chunks.slots())
        for snapshot in self.snapshots.values():
            snapshot.pool.retain(snapshot.chunks.slots())
        for row in self._db.all("SELECT DISTINCT owner FROM map_pages WHERE owner LIKE 'leaked:%'"):
            pool = self.pools[row["owner"].split(":")[1]]
            pool.retain(self._stored_map(row["owner"]).slots())
        for pool in self.pools.values():
            pool.collect()

    def _stored_map(self, owner: str) -> ChunkMap:
        rows = self._db.all("SELECT page, slots FROM map_pages WHERE owner = ?", owner)
        return ChunkMap((row["page"], row["slots"]) for row in rows)

    def _add_volume(self, volume_id: str, pool: str, size: int, chunks: ChunkMap) -> LiveVolume:
        volume = self.volumes[volume_id] = LiveVolume(volume_id, size, chunks, self.pools[pool])
        return volume

    # -- committing ------------------------------------------------------------------------------------------

    def commit(self, volume: LiveVolume) -> None:
        """Make the volume's map durable (flush, disconnect). Opens its own transaction when there is none."""
        with self._db.steady():  # also waits for a commit that another connection's flush has begun
            if volume.chunks.dirty:
                with self._db.transaction(), volume.lock:
                    self._commit_locked(volume)

    def _commit_locked(self, volume: LiveVolume) -> None:
        chunks, dirty, dropped = volume.chunks, volume.chunks.dirty, volume.dropped
        pages = [(volume.id, number, chunks.page_bytes(number)) for number in dirty]
        self._db.run_many("INSERT OR REPLACE INTO map_pages VALUES (?, ?, ?)", [p for p in pages if p[2]])
        self._db.run_many(
            "DELETE FROM map_pages WHERE owner = ? AND page = ?", [p[:2] for p in pages if not p[2]]
        )
        chunks.dirty, volume.dropped = set(), []
        self._db.after_commit(lambda: volume.pool.release(dropped))

        def undo() -> None:
            with volume.lock:
                chunks.dirty |= dirty
                volume.dropped += dropped

        self._db.on_rollback(undo)

    def forget_uncommitted(self, volume: LiveVolume) -> None:
        """Back to the last commit, as an array does that loses its write cache (a defect's work)."""
        with self._db.transaction(), volume.lock:
            stored = self._stored_map(volume.id)
            volume.pool.retain(stored.slots())
            volume.pool.release(volume.chunks.slots() + volume.dropped)
            volume.chunks, volume.dropped = stored, []

    # -- making ----------------------------------------------------------------------------------------------

    @contextmanager
    def frozen(self, volume_ids: Iterable[str]) -> Iterator[None]:
        """No write on any of the volumes while inside; their maps are committed."""
        with ExitStack() as stack:
            for volume_id in sorted(set(volume_ids)):
                volume = self.volumes[volume_id]
                stack.enter_context(volume.lock)
                self._commit_locked(volume)
            yield

    def add_volume(self, volume_id: str, pool: str, size: int, chunks: ChunkMap | None = None) -> LiveVolume:
        """A new volume with a map whose slots the caller does not own yet (they are retained here)."""
        chunks = chunks if chunks is not None else ChunkMap()
        volume = self._add_volume(volume_id, pool, size, chunks)
        self._adopt(volume_id, volume.pool, chunks)
        self._db.on_rollback(lambda: self._drop_volume(volume_id))
        return volume

    def add_snapshot(self, snapshot_id: str, volume_id: str) -> SnapshotMap:
        """Copy a volume's map; the volume must be :meth:`frozen`."""
        volume = self.volumes[volume_id]
        snapshot = SnapshotMap(volume.size, volume.chunks.copy(), volume.pool)
        self.snapshots[snapshot_id] = snapshot
        self._adopt(snapshot_id, volume.pool, snapshot.chunks)
        self._db.on_rollback(lambda: self._drop_snapshot(snapshot_id))
        return snapshot

    def _adopt(self, owner: str, pool: SlotPool, chunks: ChunkMap) -> None:
        pool.retain(chunks.slots())
        pages = ((owner, number, chunks.page_bytes(number)) for number in chunks.pages())
        self._db.run_many("INSERT INTO map_pages VALUES (?, ?, ?)", [page for page in pages if page[2]])

    # -- changing and removing -------------------------------------------------------------------------------

    def replace(self, volume_id: str, chunks: ChunkMap, size: int) -> None:
        """Give a volume that nobody uses other contents (revert), once the transaction is durable."""
        volume = self.volumes[volume_id]
        self._db.run("DELETE FROM map_pages WHERE owner = ?", volume_id)
        self._adopt(volume_id, volume.pool, chunks)
        self._db.on_rollback(lambda: volume.pool.release(chunks.slots()))

        def switch() -> None:
            with volume.lock:
                old = volume.chunks.slots() + volume.dropped
                volume.chunks, volume.dropped, volume.size = chunks, [], size
            volume.pool.release(old)

        self._db.after_commit(switch)

    def resize(self, volume_id: str, size: int) -> None:
        """The volume's size, once the transaction is durable."""
        volume = self.volumes[volume_id]

        def switch() -> None:
            volume.size = size

        self._db.after_commit(switch)

    def unmap(self, volume_id: str, chunks: Iterable[int]) -> None:
        """Lose chunks of a volume (a defect's work)."""
        volume = self.volumes[volume_id]
        for chunk in chunks:
            volume.zero(chunk * CHUNK, min(CHUNK, volume.size - chunk * CHUNK))
        self.commit(volume)

    def remove_volume(self, volume_id: str) -> None:
        """Remove the map; its slots are free once the transaction is durable."""
        self._db.run("DELETE FROM map_pages WHERE owner = ?", volume_id)
        self._db.after_commit(lambda: self._drop_volume(volume_id))

    def remove_snapshot(self, snapshot_id: str) -> None:
        """As :meth:`remove_volume`."""
        self._db.run("DELETE FROM map_pages WHERE owner = ?", snapshot_id)
        self._db.after_commit(lambda: self._drop_snapshot(snapshot_id))

    def leak(self, owner: str, pool: str) -> None:
        """Keep the slots of an object that is about to be removed (a defect's work), also over a restart."""
        with self._db.transaction():
            kept = f"{_LEAKED}{pool}:{owner}"
            self._db.run("UPDATE map_pages SET owner = ? WHERE owner = ?", kept, owner)
            self.pools[pool].retain(self._stored_map(kept).slots())

    def _drop_volume(self, volume_id: str) -> None:
        volume = self.volumes.pop(volume_id)
        volume.pool.release(volume.drop_everything())

    def _drop_snapshot(self, snapshot_id: str) -> None:
        snapshot = self.snapshots.pop(snapshot_id)
        snapshot.pool.release(snapshot.chunks.slots())
