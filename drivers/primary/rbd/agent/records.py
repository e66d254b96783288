"""What we know of our objects: one omap in the pool. Several keys change in one step, or none.

    v/VOLUME  t/SEED        the volume's or template's record
    s/SNAPSHOT              the snapshot's record
    l/VOLUME/SNAPSHOT       that the volume has it
    g/VOLUME/HOST           a grant
    r/VOLUME                which image was released
    z/IMAGE                 an image in the trash that clones still need

A record is written before anything is made from it, and taken away after everything is gone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import rados

from .cluster import Cluster

Record = dict[str, Any]
_PAGE = 1000


class Records:
    """The records of one owner."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._name = f"bollard.{cluster.owner}"

    def get(self, key: str) -> Record | None:
        """Return a record, or None."""
        with rados.ReadOpCtx() as operation:
            found, _ = self._cluster.io.get_omap_vals_by_keys(operation, (key,))
            try:
                self._cluster.io.operate_read_op(operation, self._name)
            except rados.ObjectNotFound:
                return None
            return next((json.loads(value) for _, value in found), None)

    def put(self, changes: Mapping[str, Record | None]) -> None:
        """Write records, and take away those that are None, in one step."""
        written = {key: json.dumps(record).encode() for key, record in changes.items() if record is not None}
        removed = tuple(key for key, record in changes.items() if record is None)
        with rados.WriteOpCtx() as operation:
            if written:
                self._cluster.io.set_omap(operation, tuple(written), tuple(written.values()))
            if removed:
                operation.new(rados.LIBRADOS_CREATE_IDEMPOTENT)
                self._cluster.io.remove_omap_keys(operation, removed)
            self._cluster.operate(operation, self._name)

    def scan(self, prefix: str, after: str = "") -> Iterator[tuple[str, Record]]:
        """Yield what lies behind `prefix`, from the key behind `after` on, sorted."""
        cursor = prefix + after
        while page := self._page(prefix, cursor):
            yield from ((key.removeprefix(prefix), record) for key, record in page)
            cursor = page[-1][0]

    def _page(self, prefix: str, after: str) -> list[tuple[str, Record]]:
        with rados.ReadOpCtx() as operation:
            found, _ = self._cluster.io.get_omap_vals(operation, after, prefix, _PAGE)
            try:
                self._cluster.io.operate_read_op(operation, self._name)
            except rados.ObjectNotFound:
                return []
            return [(key, json.loads(value)) for key, value in found]
