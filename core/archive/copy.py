"""Copying snapshots to another store: parts as they are, on the target in the order of `create`.

    source                          target
    manifest: which parts           1-3  intent; what is relied upon is still there  (begin.py)
    part ── get, SHA-256 ─────────> 4    put, into the layer of this run
                                    5-7  look at all parts, confirm the lease, manifest  (create.py)

Parts that the parent has on the target, or that a killed run has left there, are not sent again. The new
manifest says where they lie there; the image's digest is the same, since the parts are. A snapshot whose
parent is not on the target is copied with everything that it needs: it is whole by itself.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter

from ..dataplane.checksum import crc32
from ..spi.call import Call
from ..spi.errors import Conflict, DataLoss, NotFound
from ..spi.image_store import Body
from .begin import Beginning, Begun
from .create import CreateOptions, Creation
from .manifest import Manifest, PartRef, Window
from .names import layer_prefix, parse, part_name, volume_prefix
from .parallel import Workers, run
from .rescue import publish_rescue
from .store import Store, keys_under, load_manifest

_Name = tuple[str, int]
"""A part's file name, which carries its place and digest, and its size in bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedSnapshot:
    """What became of one snapshot.

    Attributes:
        parts: sent now, `size` bytes in all.
        shared: bytes of its parts that were on the target already.
    """

    volume: str
    snapshot: str
    parts: int
    size: int
    shared: int


def parents_first(manifests: Iterable[Manifest]) -> list[Manifest]:
    """Sort snapshots so that each comes after the one that it is an increment to; else by age.

    Raises:
        DataLoss: they are each other's parents.
    """
    known = {m.snapshot: m for m in sorted(manifests, key=lambda m: (m.created, m.snapshot))}
    above = {m.snapshot: {m.parent} & known.keys() for m in known.values()}
    try:
        return [known[snapshot] for snapshot in TopologicalSorter(above).static_order() if snapshot in known]
    except CycleError as error:
        raise DataLoss(f"snapshots are each other's parents: {', '.join(map(str, error.args[1]))}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotCopy:
    """One snapshot on its way.

    Attributes:
        source: where it is; `manifest` as it is there.
        beginning: the run on the target.
        sent: told the bytes of each part that is there, sent or not.
    """

    source: Store
    manifest: Manifest
    beginning: Beginning
    workers: Workers
    sent: Callable[[int], None]

    def run(self, call: Call) -> CopiedSnapshot:
        """Copy it; safe to repeat after any failure.

        Raises:
            Conflict: the target has another image under this id.
            Busy: another writer is at it.
            DataLoss: a part is damaged or missing in the source; nothing is visible on the target.
            NotFound: it was deleted from the source meanwhile.
        """
        parts = {_name(window, part): (window, part) for window, part in self.manifest.parts()}
        total = sum(size for _, size in parts)
        if self._is_there(call):
            self.sent(total)
            return self._result([], total)
        begun = self.beginning.begin(self._base(parts.keys(), call), call)
        publish_rescue(self.beginning.store, call)
        there = _layers_of(begun.parent) | dict(begun.adopted)
        missing = [part for name, part in parts.items() if name not in there]
        self.sent(total - sum(part.size for _, part in missing))
        self._send(missing, begun, call)
        manifest = self._translated(begun, there)
        Creation(self.beginning.store, begun, CreateOptions(), self.workers).commit(manifest, call)
        return self._result([part.size for _, part in missing], total)

    def _result(self, sizes: list[int], total: int) -> CopiedSnapshot:
        return CopiedSnapshot(
            volume=self.manifest.volume,
            snapshot=self.manifest.snapshot,
            parts=len(sizes),
            size=sum(sizes),
            shared=total - sum(sizes),
        )

    def _is_there(self, call: Call) -> bool:
        wanted = self.manifest
        try:
            found = load_manifest(self.beginning.store, wanted.volume, wanted.snapshot, call)
        except NotFound:
            return False
        if found.digest != wanted.digest:
            raise Conflict(f"the target has another image under the id {wanted.volume}/{wanted.snapshot}")
        return True

    def _base(self, parts: Iterable[_Name], call: Call) -> str | None:
        """Return the snapshot on the target to share parts with: the parent, else who has most of them."""
        store, volume, parent = self.beginning.store, self.manifest.volume, self.manifest.parent
        if parent is None:
            return None
        wanted = dict(parts)
        best, most = None, 0
        for snapshot in [parent, *_snapshots_of(store, volume, call)]:
            try:
                found = load_manifest(store, volume, snapshot, call)
            except NotFound:
                continue
            if snapshot == parent:
                return parent
            shared = sum(wanted.get(name, 0) for name, _ in _layers_of(found))
            best, most = max((best, most), (snapshot, shared), key=lambda one: one[1])
        return best

    def _send(self, parts: list[tuple[Window, PartRef]], begun: Begun, call: Call) -> None:
        largest = max((part.size for _, part in parts), default=1)

        def send(one: tuple[Window, PartRef], inner: Call) -> int:
            window, part = one
            body = self._fetched(window, part, inner)
            key = layer_prefix(begun.volume, begun.layer) + part_name(window.offset, part.sha256)
            self.beginning.store.put(key, body, inner)
            return part.size

        run(
            send,
            parts,
            self.sent,
            limit=max(1, min(self.workers.count, self.workers.budget // largest)),
            workers=self.workers,
            call=call,
            tick=lambda: begun.lease.renew(call),
        )

    def _fetched(self, window: Window, part: PartRef, call: Call) -> Body:
        """Return a part of the source, checked against the manifest."""
        key, file, digest = self.manifest.key_of(window, part), io.BytesIO(), hashlib.sha256()
        try:
            for chunk in self.source.get(key, call):
                file.write(chunk)
                digest.update(chunk)
                if file.tell() > part.size:
                    break
        except NotFound as error:
            load_manifest(self.source, self.manifest.volume, self.manifest.snapshot, call)  # was it deleted?
            raise DataLoss(f"the part {key} is missing") from error
        if (file.tell(), digest.hexdigest()) != (part.size, part.sha256):
            raise DataLoss(f"the part {key} is damaged: it is not the one of the manifest")
        data = file.getvalue()
        return Body(
            size=part.size, sha256=part.sha256, open=lambda: io.BytesIO(data), crc32=crc32(memoryview(data))
        )

    def _translated(self, begun: Begun, there: dict[_Name, str]) -> Manifest:
        """Return the manifest with the places that the parts have on the target."""

        def place(window: Window, part: PartRef) -> PartRef:
            return replace(part, layer=there.get(_name(window, part), begun.layer))

        windows = tuple(replace(w, parts=tuple(place(w, p) for p in w.parts)) for w in self.manifest.windows)
        return replace(self.manifest, attempt=self.beginning.attempt, windows=windows)


def _name(window: Window, part: PartRef) -> _Name:
    return part_name(window.offset, part.sha256), part.size


def _layers_of(manifest: Manifest | None) -> dict[_Name, str]:
    """Return where the parts of a snapshot lie."""
    return {_name(window, part): part.layer for window, part in manifest.parts()} if manifest else {}


def _snapshots_of(store: Store, volume: str, call: Call) -> list[str]:
    keys = (parse(item.key) for item in keys_under(store, volume_prefix(volume), call))
    return [key.snapshot for key in keys if key and not key.attempt]
