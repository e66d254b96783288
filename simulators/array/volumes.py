"""Volumes: create, change, clone, revert, delete."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from . import rules
from .chunkmap import ChunkMap
from .core import Core, Json, Query, new_id
from .defects import Defect
from .errors import ArrayError, invalid, not_found
from .jobs import Jobs
from .slots import CHUNK

_OLD_CHUNKS = 64  # how much of its predecessors a volume shows under NEW_VOLUME_SHOWS_OLD_BYTES
Kick = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVolume:
    """A volume to be made; checked already."""

    name: str
    pool: str
    size: int
    metadata: dict[str, str]
    qos: dict[str, int | None]
    source: tuple[str, str] | None = None


class Volumes:
    """The volumes of the array.

    Args:
        kick: closes the sessions on a volume's serial; called outside of any transaction.
    """

    def __init__(self, core: Core, jobs: Jobs, kick: Kick) -> None:
        self._core = core
        self._jobs = jobs
        self._kick = kick

    # -- looking ---------------------------------------------------------------------------------------------

    def get(self, volume_id: str) -> Json:
        """One volume."""
        return self.show(self._core.find("volumes", volume_id))

    def search(self, arguments: dict[str, str]) -> Json:
        """Volumes by name, beginning of name, and pool."""
        query = Query(arguments, {"name": "name", "pool": "pool"}, others=("name_prefix",))
        prefix = arguments.get("name_prefix", "")
        query.where("substr(name, 1, ?) = ?", len(prefix), prefix)
        return self._core.page("volumes", query, self.show)

    def show(self, row: sqlite3.Row) -> Json:
        """A volume as the API shows it."""
        db, volume_id = self._core.db, row["id"]
        live = self._core.store.volumes[volume_id]
        source = {"type": row["source_type"], "id": row["source_id"]} if row["source_id"] else None
        return {
            **{key: row[key] for key in ("id", "name", "pool", "size", "serial")},
            "state": self._jobs.state_of(volume_id),
            "allocated_bytes": live.allocated_bytes(),
            "created_at": row["created"],
            "metadata": json.loads(row["metadata"]),
            "qos": json.loads(row["qos"]),
            "source": source,
            "snapshots": db.number("SELECT COUNT(*) FROM snapshots WHERE volume = ?", volume_id),
            "grants": db.number("SELECT COUNT(*) FROM grants WHERE volume = ?", volume_id),
        }

    # -- making ----------------------------------------------------------------------------------------------

    def create(self, body: Json) -> Json:
        """An empty volume."""
        rules.check_keys(body, ("name", "pool", "size"), ("metadata", "qos"))
        size = rules.size(body)
        if Defect.CREATE_WRONG_SIZE in self._core.defects:
            size = max(rules.VOLUME_MIN, size - CHUNK)
        wanted = NewVolume(
            name=rules.name(body),
            pool=rules.text(body, "pool"),
            size=size,
            metadata=rules.metadata(body),
            qos=rules.qos(body),
        )
        if wanted.pool not in self._core.store.pools:
            raise not_found("pool", wanted.pool, "pool")
        with self._core.db.transaction():
            return self.get(self._make(wanted, self._old_bytes(wanted)))

    def _old_bytes(self, wanted: NewVolume) -> ChunkMap:
        chunks = ChunkMap()
        if Defect.NEW_VOLUME_SHOWS_OLD_BYTES in self._core.defects:
            pool = self._core.store.pools[wanted.pool]
            slots = pool.allocate_reused(min(_OLD_CHUNKS, wanted.size // CHUNK))
            for chunk, slot in enumerate(slots):
                chunks[chunk] = slot
            self._core.db.after_commit(lambda: pool.release(slots))  # the volume retained them for itself
        return chunks

    def clone(self, volume_id: str, body: Json) -> Json:
        """A writable copy of a volume as it is now."""
        with self._core.db.transaction():
            source = self._core.find("volumes", volume_id)
            self._jobs.refuse_busy(volume_id)
            wanted = self._clone_of(source, ("volume", volume_id), body)
            with self._core.store.frozen([volume_id]):
                return self._make_clone("clone_volume", wanted, self._core.store.volumes[volume_id].chunks)

    def clone_snapshot(self, snapshot: sqlite3.Row, chunks: ChunkMap, body: Json) -> Json:
        """A volume that begins as a snapshot; inside the transaction in which it was found."""
        wanted = self._clone_of(snapshot, ("snapshot", snapshot["id"]), body)
        return self._make_clone("clone_snapshot", wanted, chunks)

    def _clone_of(self, row: sqlite3.Row, source: tuple[str, str], body: Json) -> NewVolume:
        rules.check_keys(body, ("name",), ("size", "metadata"))
        defects = self._core.defects
        least = rules.VOLUME_MIN if Defect.CLONE_SMALLER_ACCEPTED in defects else row["size"]
        size = rules.size(body, at_least=least) if "size" in body else row["size"]
        if Defect.CLONE_KEEPS_SOURCE_SIZE in defects:
            size = min(size, row["size"])
        return NewVolume(
            name=rules.name(body),
            pool=row["pool"],
            size=size,
            metadata=rules.metadata(body),
            qos=rules.qos({}),
            source=source,
        )

    def _make_clone(self, kind: str, wanted: NewVolume, chunks: ChunkMap) -> Json:
        """Make the volume and the job that reports it; inside a transaction."""
        defects = self._core.defects
        existing = self._named(wanted.pool, wanted.name)
        if existing and existing["source_id"] and Defect.CLONE_EMPTY_ON_RETRY in defects:
            self._core.store.replace(existing["id"], ChunkMap(), existing["size"])
            return self._jobs.start(kind, existing["id"])
        content = ChunkMap() if Defect.CLONE_EMPTY in defects else chunks.copy()
        made = self._make(wanted, content)
        if Defect.CLONE_SMALLER_ACCEPTED in defects:
            end = -(-wanted.size // CHUNK)
            self._core.store.unmap(made, [c for c in content.mapped(0, 1 << 40) if c >= end])
        return self._jobs.start(kind, made)

    def _make(self, wanted: NewVolume, chunks: ChunkMap) -> str:
        core, volume_id = self._core, new_id("vol")
        self._refuse(wanted)
        kind, source = wanted.source or (None, None)
        shares = kind is not None and Defect.CLONE_SHARES_BLOCKS_WITH_SOURCE in core.defects
        metadata = {} if Defect.PRIVATE_METADATA_LOST in core.defects else wanted.metadata
        limits = rules.qos({}) if Defect.QOS_IGNORED in core.defects else wanted.qos
        core.db.run(
            "INSERT INTO volumes (id, name, pool, size, export_size, serial, metadata, qos, source_type,"
            " source_id, shares_blocks, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            *(volume_id, wanted.name, wanted.pool, wanted.size, wanted.size, self._new_serial()),
            *(json.dumps(metadata), json.dumps(limits), kind, source, shares, core.now()),
        )
        volume = core.store.add_volume(volume_id, wanted.pool, wanted.size, chunks)
        volume.shares_blocks = shares
        volume.limiter.set(limits)
        return volume_id

    def _refuse(self, wanted: NewVolume) -> None:
        core = self._core
        duplicates = Defect.CREATE_DUPLICATE_NAME_ALLOWED in core.defects
        if self._named(wanted.pool, wanted.name) and not duplicates:
            raise ArrayError("name_exists", f"pool {wanted.pool} has a volume {wanted.name!r}", "name")
        if core.db.number("SELECT COUNT(*) FROM volumes") >= rules.MAX_VOLUMES:
            raise ArrayError("limit_exceeded", f"the array has {rules.MAX_VOLUMES} volumes")
        self._refuse_overprovision(wanted.pool, wanted.size)

    def _refuse_overprovision(self, pool: str, more: int) -> None:
        core = self._core
        provisioned = core.db.number("SELECT SUM(size) FROM volumes WHERE pool = ?", pool)
        limit = core.store.pools[pool].capacity * core.settings.overprovision
        if provisioned + more > limit:
            raise ArrayError("out_of_space", f"pool {pool} may provision {int(limit)} bytes", "size")

    def _named(self, pool: str, name: str) -> sqlite3.Row | None:
        return self._core.db.one("SELECT * FROM volumes WHERE pool = ? AND name = ?", pool, name)

    def _new_serial(self) -> str:
        last = self._core.db.recall("last_deleted_serial")
        if last and Defect.SERIAL_REUSED in self._core.defects:
            return last
        return "60b011a4d" + secrets.token_hex(12)[:23]  # NAA 6, a made-up vendor id, 92 random bits

    # -- changing --------------------------------------------------------------------------------------------

    def update(self, volume_id: str, body: Json) -> Json:
        """Rename, grow, replace metadata or limits; all or nothing."""
        rules.check_keys(body, (), ("name", "size", "metadata", "qos"))
        with self._core.db.transaction():
            row = self._core.find("volumes", volume_id)
            self._jobs.refuse_busy(volume_id)
            if "name" in body and rules.name(body) != row["name"]:
                self._rename(row, rules.name(body))
            if "metadata" in body:
                self._set_metadata(volume_id, rules.metadata(body))
            if "qos" in body:
                self._set_qos(volume_id, rules.qos(body))
            if "size" in body:
                self._resize(row, rules.size(body))
            return self.get(volume_id)

    def _rename(self, row: sqlite3.Row, name: str) -> None:
        if self._named(row["pool"], name) and Defect.CREATE_DUPLICATE_NAME_ALLOWED not in self._core.defects:
            raise ArrayError("name_exists", f"pool {row['pool']} has a volume {name!r}", "name")
        self._core.db.run("UPDATE volumes SET name = ? WHERE id = ?", name, row["id"])

    def _set_metadata(self, volume_id: str, metadata: dict[str, str]) -> None:
        if Defect.PRIVATE_METADATA_LOST not in self._core.defects:
            self._core.db.run("UPDATE volumes SET metadata = ? WHERE id = ?", json.dumps(metadata), volume_id)

    def _set_qos(self, volume_id: str, qos: dict[str, int | None]) -> None:
        if Defect.QOS_IGNORED not in self._core.defects:
            self._core.db.run("UPDATE volumes SET qos = ? WHERE id = ?", json.dumps(qos), volume_id)
            self._core.db.after_commit(lambda: self._core.store.volumes[volume_id].limiter.set(qos))

    def _resize(self, row: sqlite3.Row, size: int) -> None:
        core, defects = self._core, self._core.defects
        if size < row["size"] and Defect.RESIZE_SHRINK_ACCEPTED not in defects:
            raise ArrayError("shrink_not_allowed", f"the volume has {row['size']} bytes already", "size")
        self._refuse_overprovision(row["pool"], size - row["size"])
        if size > row["size"] and Defect.RESIZE_LOSES_TAIL in defects:
            core.store.unmap(row["id"], [(row["size"] - 1) // CHUNK])
        if size < row["size"]:
            core.store.unmap(row["id"], range(-(-size // CHUNK), -(-row["size"] // CHUNK)))
        core.db.run("UPDATE volumes SET size = ? WHERE id = ?", size, row["id"])
        if size > row["size"] and Defect.QOS_LOST_ON_RESIZE in defects:
            self._set_qos(row["id"], rules.qos({}))
        if Defect.RESIZE_REPORTS_BUT_DOES_NOT_GROW not in defects:
            core.db.run("UPDATE volumes SET export_size = ? WHERE id = ?", size, row["id"])
            core.store.resize(row["id"], size)

    def revert(self, volume_id: str, body: Json) -> Json:
        """Give a volume the contents and size of one of its snapshots."""
        rules.check_keys(body, ("snapshot",))
        core = self._core
        with core.db.transaction():
            core.find("volumes", volume_id)
            snapshot = core.find("snapshots", rules.text(body, "snapshot"), "snapshot")
            if snapshot["volume"] != volume_id:
                raise invalid("snapshot", "is of another volume")
            self._jobs.refuse_busy(volume_id)
            self._refuse_granted(volume_id)
            if Defect.REVERT_DOES_NOTHING not in core.defects:
                self._revert_to(snapshot)
            return self._jobs.start("revert", volume_id)

    def _revert_to(self, snapshot: sqlite3.Row) -> None:
        core, volume_id, size = self._core, snapshot["volume"], snapshot["size"]
        if Defect.SNAPSHOT_NOT_POINT_IN_TIME not in core.defects:
            core.store.replace(volume_id, core.store.snapshots[snapshot["id"]].chunks.copy(), size)
        core.db.run("UPDATE volumes SET size = ?, export_size = ? WHERE id = ?", size, size, volume_id)
        core.store.resize(volume_id, size)
        if Defect.REVERT_DROPS_NEWER_SNAPSHOTS in core.defects:
            newer = "volume = ? AND seq > ?"
            for row in core.db.all(f"SELECT id FROM snapshots WHERE {newer}", volume_id, snapshot["seq"]):  # noqa: S608 - a constant
                core.store.remove_snapshot(row["id"])
            core.db.run(f"DELETE FROM snapshots WHERE {newer}", volume_id, snapshot["seq"])  # noqa: S608 - a constant

    # -- deleting --------------------------------------------------------------------------------------------

    def delete(self, volume_id: str) -> None:
        """Remove a volume that nobody uses and nothing depends on."""
        core, defects = self._core, self._core.defects
        with core.db.transaction():
            row = core.find("volumes", volume_id)
            self._jobs.refuse_busy(volume_id)
            if Defect.DELETE_GRANTED_ALLOWED not in defects:
                self._refuse_granted(volume_id)
            if core.db.number("SELECT COUNT(*) FROM snapshots WHERE volume = ?", volume_id):
                raise ArrayError("has_dependents", f"volume {volume_id} has snapshots")
            if Defect.DELETE_SAYS_OK_BUT_KEEPS in defects:
                return
            self._remove(row)
        self._kick(row["serial"])

    def _remove(self, row: sqlite3.Row) -> None:
        core, volume_id = self._core, row["id"]
        if Defect.CLONE_LOSES_AFTER_SOURCE_DELETE in core.defects:
            self._wipe_clones(volume_id)
        if Defect.DELETE_LEAKS_SPACE in core.defects:
            core.store.commit(core.store.volumes[volume_id])
            core.store.leak(volume_id, row["pool"])
        core.db.run("DELETE FROM volumes WHERE id = ?", volume_id)
        core.db.run("DELETE FROM grants WHERE volume = ?", volume_id)
        core.db.remember("last_deleted_serial", row["serial"])
        core.store.remove_volume(volume_id)

    def _wipe_clones(self, volume_id: str) -> None:
        store = self._core.store
        mine = set(store.volumes[volume_id].chunks.slots())
        for row in self._core.db.all("SELECT id FROM volumes WHERE source_id = ?", volume_id):
            chunks = store.volumes[row["id"]].chunks
            store.unmap(row["id"], [c for c in chunks.mapped(0, 1 << 40) if chunks[c] in mine])

    def _refuse_granted(self, volume_id: str) -> None:
        if self._core.db.number("SELECT COUNT(*) FROM grants WHERE volume = ?", volume_id):
            raise ArrayError("in_use", f"volume {volume_id} is granted")
