"""Pools and the array itself, as the API shows them."""

from __future__ import annotations

import sqlite3

from . import rules
from .core import Core, Json, Query
from .defects import Defect
from .errors import not_found
from .slots import CHUNK

_MIB = 2**20


class Pools:
    """Thin capacity: what is there, what is used, what was promised."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def get(self, name: str) -> Json:
        """One pool."""
        row = self._core.db.one("SELECT * FROM pools WHERE name = ?", name)
        if row is None:
            raise not_found("pool", name)
        return self._show(row)

    def search(self, arguments: dict[str, str]) -> Json:
        """All pools."""
        return self._core.page("pools", Query(arguments, {}), self._show)

    def _show(self, row: sqlite3.Row) -> Json:
        core, name = self._core, row["name"]
        pool = core.store.pools[name]
        used = pool.capacity + CHUNK if Defect.CAPACITY_NEGATIVE in core.defects else pool.used_bytes
        unit = _MIB if Defect.CAPACITY_IN_MIB in core.defects else 1
        provisioned = core.db.number("SELECT SUM(size) FROM volumes WHERE pool = ?", name)
        return {
            "name": name,
            "total_bytes": pool.capacity // unit,
            "used_bytes": used // unit,
            "free_bytes": (pool.capacity - used) // unit,
            "provisioned_bytes": provisioned // unit,
            "provisioning_limit_bytes": int(pool.capacity * core.settings.overprovision) // unit,
            "volumes": core.db.number("SELECT COUNT(*) FROM volumes WHERE pool = ?", name),
        }


def system(core: Core) -> Json:
    """Who the array is and what it can take."""
    return {
        "name": "bollard-array",
        "model": "Bollard AF-1 (simulated)",
        "firmware": "1.0.0",
        "serial": core.db.recall("array_serial"),
        "api_version": "1.0",
        "chunk_bytes": CHUNK,
        "limits": {
            "volume_bytes_min": rules.VOLUME_MIN,
            "volume_bytes_max": rules.VOLUME_MAX,
            "volume_size_multiple": rules.SIZE_MULTIPLE,
            "volumes": rules.MAX_VOLUMES,
            "snapshots_per_volume": rules.MAX_SNAPSHOTS,
            "grants_per_volume": rules.MAX_GRANTS,
            "name_length": rules.NAME_LENGTH,
            "metadata_bytes": rules.METADATA_BYTES,
        },
    }
