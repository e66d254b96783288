"""Snapshots in an archive on secondary storage (NFS, S3, Swift), straight from the hypervisor.

    v1/<volume>/<snapshot>/...              the archive's own format
    checkpoints/<volume>/<checkpoint>       the hypervisor's text

The archive commits with the manifest and checks every part before, so there is no name to give at the
end. It needs the manifest of a parent to make an increment, and then never again: unlike a file of a
backing chain, a manifest that is gone takes nothing from its children.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ....transfer_objects.enums import DataStoreRole
from ...archive import Archive, CreateOptions, Level, Manifest
from ...catalog.snapshots import Ref
from ...dataplane import BlockSink, BlockSource, FileSink
from ...dataplane.os_errors import os_errors
from ...spi.call import Call
from ...spi.errors import DataLoss, NotFound, Unsupported
from ...spi.image_store import Body
from ...spi.model import Extent
from ...store import Store
from ..origin import origin_of
from .stores import ChainStore, Link, Stored

_MAX_TEXT = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ChainArchive:
    """An archive on a store; see `ChainStore`.

    Attributes:
        store: what `archive` works on.
        scratch: directory for images that somebody reads without restoring them somewhere.
        verify: how thoroughly a new snapshot is read back; its parts were compared with their digests
            while they were stored, so the default asks for their presence and size.
    """

    id: str
    archive: Archive
    store: Store
    scratch: Path
    verify: Level = Level.EXISTS

    @property
    def role(self) -> DataStoreRole:
        """Secondary storage."""
        return DataStoreRole.IMAGE

    def reaches(self, other: ChainStore) -> bool:
        """Itself only: an increment shares parts with its parent."""
        return other.id == self.id

    def write(
        self, chain: Sequence[Link], source: BlockSource, changed: Iterable[Extent] | None, call: Call
    ) -> Stored:
        """See `ChainStore.write`."""
        ref, parent = chain[0].ref, chain[1].ref if len(chain) > 1 else None
        manifest = self.archive.create(
            source,
            call,
            volume=ref.volume,
            snapshot=ref.snapshot,
            parent=parent.snapshot if parent else None,
            changed=changed,
            options=CreateOptions(origin=origin_of(f"checkpoint {ref.checkpoint}" if ref.checkpoint else "")),
        )
        report = self.archive.verify(call, volume=ref.volume, snapshot=ref.snapshot, level=self.verify)
        if report.problems:
            raise DataLoss(f"snapshot {ref.snapshot} was stored badly: {report.problems[0]}")
        return _stored(manifest)

    def take_over(self, chain: Sequence[Link], old_chain: Sequence[Link], call: Call) -> None:
        """See `ChainStore.take_over`: what differs from the parent is found by its hashes."""
        if not isinstance(old_chain[0].store, ChainArchive):
            raise Unsupported(f"files cannot become snapshots in the archive {self.id}: copy them")
        with old_chain[0].store.open(old_chain, call) as source:
            self.write(chain, source, None, call)

    def relink(self, chain: Sequence[Link], call: Call) -> None:
        """See `ChainStore.relink`: a manifest names parts, wherever its parent was."""

    def look(self, ref: Ref, call: Call) -> Stored | None:
        """See `ChainStore.look`."""
        try:
            return _stored(self.archive.show(call, volume=ref.volume, snapshot=ref.snapshot))
        except NotFound:
            return None

    def open(self, chain: Sequence[Link], call: Call) -> BlockSource:
        """See `ChainStore.open`: it is restored into a sparse file that has no name."""
        ref = chain[0].ref
        size = self.archive.show(call, volume=ref.volume, snapshot=ref.snapshot).size
        with os_errors(f"cannot make a file in {self.scratch}"):
            fd = os.open(self.scratch, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
            os.ftruncate(fd, size)
        sink = FileSink(self.scratch, fd)
        try:
            self.restore(chain, sink, call)
        except BaseException:
            sink.close()
            raise
        return sink

    def restore(self, chain: Sequence[Link], sink: BlockSink, call: Call) -> None:
        """See `ChainStore.restore`."""
        ref = chain[0].ref
        self.archive.restore(sink, call, volume=ref.volume, snapshot=ref.snapshot, sink_is_zero=True)

    def put_checkpoint(self, ref: Ref, text: str, call: Call) -> str:
        """See `ChainStore.put_checkpoint`."""
        key = _key(ref)
        self.store.put(key, Body.of(text.encode()), call)
        return key

    def checkpoint(self, ref: Ref, call: Call) -> str:
        """See `ChainStore.checkpoint`."""
        size = self.store.head(_key(ref), call).size
        if size > _MAX_TEXT:
            raise DataLoss(f"the text of checkpoint {ref.checkpoint} has {size} bytes")
        return b"".join(self.store.get(_key(ref), call, length=size)).decode() if size else ""

    def remove(self, ref: Ref, call: Call) -> None:
        """See `ChainStore.remove`."""
        with suppress(NotFound):
            self.store.delete(_key(ref), call)
        # Not `known`: on Swift the archive would wait a minute for its listing, for each ref that goes.
        self.archive.delete(call, volume=ref.volume, snapshot=ref.snapshot)

    def free(self, volume: str, call: Call, *, known: Collection[str]) -> None:
        """See `ChainStore.free`; it waits until a listing that lags has caught up."""
        self.archive.collect(call, volume=volume, known=known)


def _key(ref: Ref) -> str:
    return f"checkpoints/{ref.volume}/{ref.checkpoint or ref.snapshot}"


def _stored(manifest: Manifest) -> Stored:
    own = f"{manifest.snapshot}/"
    return Stored(manifest.size, sum(part.size for _, part in manifest.parts() if part.layer.startswith(own)))
