"""Reading snapshots and writing volumes from this machine, leaving nothing behind.

    snapshot ── can be read as it stands? ── yes ──> open
                          │ no
                          └─> journal ─> temp clone ─> grant (read-only) ─> open
                                              undone in reverse order, then the journal entry goes

Whatever a crash leaves is named in the journal, and `sweep_pool` removes it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from ..transfer_objects.ids import HostId, SnapshotId, VolumeId, new_id
from .dataplane import BlockSink, BlockSource, open_sink, open_source
from .journal import Entry, Journal
from .pool import Pool
from .spi import Capability, Host, Location, StorageError, VolumeSpec

_log = logging.getLogger("bollard.access")

TEMP_CLONE = "temp-clone"
GRANT = "grant"
FILL = "fill"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mover:
    """What moves data on this machine: its identity towards arrays, and its journal."""

    host: Host
    journal: Journal

    @contextmanager
    def reading_snapshot(self, pool: Pool, snapshot: SnapshotId) -> Iterator[BlockSource]:
        """Open a snapshot for reading, through a temporary clone where the pool needs one.

        Raises:
            Unsupported: the pool can neither read a snapshot directly nor clone it.
        """
        if Capability.DIRECT_SNAPSHOT_READ in pool.capabilities().native:
            with open_source(pool.snapshots.locate(snapshot)) as source:
                yield source
            return
        size = pool.snapshots.get(snapshot).size
        clone = VolumeId(new_id("tmp"))
        with self._journalled(TEMP_CLONE, pool, clone) as undo:
            undo.callback(pool.volumes.delete, clone)
            pool.volumes.from_snapshot(snapshot, VolumeSpec(id=clone, size=size, name=f"temp of {snapshot}"))
            location = self._location(pool, clone, undo, read_only=True)
            yield undo.enter_context(open_source(location))

    @contextmanager
    def reading_volume(self, pool: Pool, volume: VolumeId) -> Iterator[BlockSource]:
        """Open a volume for reading; it should not be written by anybody else meanwhile."""
        with self._journalled(GRANT, pool, volume) as undo:
            yield undo.enter_context(open_source(self._location(pool, volume, undo, read_only=True)))

    @contextmanager
    def writing_volume(self, pool: Pool, volume: VolumeId) -> Iterator[BlockSink]:
        """Open a volume for writing. The caller flushes; closing and revoking happen here."""
        with self._journalled(GRANT, pool, volume) as undo:
            yield undo.enter_context(open_sink(self._location(pool, volume, undo, read_only=False)))

    @contextmanager
    def filling_volume(self, pool: Pool, volume: VolumeId) -> Iterator[None]:
        """Hold a new volume that is being filled: when the body fails, the volume goes again.

        Half a restored volume that looks whole is worse than none.
        """
        entry = self.journal.begin(FILL, pool=pool.info.identity, volume=volume, host=self.host.id)
        try:
            yield
        except BaseException:
            _finish(entry, partial(pool.volumes.delete, volume))
            raise
        entry.done()

    def _location(self, pool: Pool, volume: VolumeId, undo: ExitStack, *, read_only: bool) -> Location:
        if not pool.managed:
            return pool.volumes.locate(volume)
        undo.callback(pool.volumes.revoke, volume, self.host.id)
        return pool.volumes.grant(volume, self.host, read_only=read_only)

    @contextmanager
    def _journalled(self, kind: str, pool: Pool, volume: VolumeId) -> Iterator[ExitStack]:
        """Write the intent, run the body, undo in reverse order, remove the intent.

        A failing undo does not turn a good result into an error: the entry stays, and says so.
        """
        identity = pool.info.identity
        entry = self.journal.begin(kind, pool=identity, volume=volume, host=self.host.id)
        undo = ExitStack()
        try:
            yield undo
        finally:
            _finish(entry, undo.close)

    def sweep_pool(self, pool: Pool, *, dry_run: bool = False) -> list[str]:
        """Undo what dead processes of this machine left on `pool`; returns one line for each object."""
        swept = []
        for entry in self.journal.abandoned():
            if entry.fields.get("pool") != pool.info.identity or self.journal.others_hold(entry):
                entry.release()
                continue
            swept.append(f"{entry.kind} {entry.fields['volume']}")
            if dry_run:
                entry.release()
            else:
                _finish(entry, partial(_undo_abandoned, pool, entry))
        return swept


def _finish(entry: Entry, undo: Callable[[], None]) -> None:
    try:
        undo()
    except StorageError as error:
        entry.release()
        _log.warning("%s of %s stays until the next sweep: %s", entry.kind, entry.fields["volume"], error)
    else:
        entry.done()


def _undo_abandoned(pool: Pool, entry: Entry) -> None:
    volume = VolumeId(entry.fields["volume"])
    if pool.managed:
        pool.volumes.revoke(volume, HostId(entry.fields["host"]))
    if entry.kind in (TEMP_CLONE, FILL):
        pool.volumes.delete(volume)
