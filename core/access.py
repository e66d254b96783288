"""Reading snapshots and writing volumes from this machine, leaving nothing behind.

    snapshot ── can be read as it stands? ── yes ──> open
                          │ no
                          └─> journal ─> temp clone ─> grant (read-only) ─> open
                                              undone in reverse order, then the journal entry goes

Whatever a crash leaves is named in the journal, and `sweep_pool` removes it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from ..transfer_objects.ids import HostId, SnapshotId, VolumeId, new_id
from .dataplane import BlockSink, BlockSource, open_sink, open_source
from .journal import Entry, Journal
from .pool import Pool
from .spi import Capability, Host, Location, StorageError, VolumeSpec

_log = logging.getLogger("bollard.access")

TEMP_CLONE = "temp-clone"
GRANT = "grant"
FILL = "fill"
_KINDS = frozenset({TEMP_CLONE, GRANT, FILL})
_NEED_ACCESS = frozenset({TEMP_CLONE, GRANT})  # who fills a volume writes it under a grant of its own


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
        with self._journalled(TEMP_CLONE, pool, clone) as use:
            use.undo.callback(pool.volumes.delete, clone)
            pool.volumes.from_snapshot(snapshot, VolumeSpec(id=clone, size=size, name=f"temp of {snapshot}"))
            yield use.undo.enter_context(open_source(self._location(pool, use, read_only=True)))

    @contextmanager
    def reading_volume(self, pool: Pool, volume: VolumeId) -> Iterator[BlockSource]:
        """Open a volume for reading; it should not be written by anybody else meanwhile."""
        with self._journalled(GRANT, pool, volume) as use:
            yield use.undo.enter_context(open_source(self._location(pool, use, read_only=True)))

    @contextmanager
    def writing_volume(self, pool: Pool, volume: VolumeId) -> Iterator[BlockSink]:
        """Open a volume for writing. The caller flushes; closing and revoking happen here."""
        with self._journalled(GRANT, pool, volume) as use:
            yield use.undo.enter_context(open_sink(self._location(pool, use, read_only=False)))

    @contextmanager
    def filling_volume(self, pool: Pool, volume: VolumeId) -> Iterator[None]:
        """Hold a new volume that is being filled: when the body fails, the volume goes again.

        Half a restored volume that looks whole is worse than none.
        """
        with self._journalled(FILL, pool, volume) as use:
            use.undo.callback(pool.volumes.delete, volume)
            yield
            use.undo.pop_all()

    def _location(self, pool: Pool, use: _Use, *, read_only: bool) -> Location:
        volume = _volume(use.entry)
        if not pool.managed:
            return pool.volumes.locate(volume)
        use.undo.callback(self._revoke, pool, use.entry)
        return pool.volumes.grant(volume, self.host, read_only=read_only)

    def _revoke(self, pool: Pool, entry: Entry) -> None:
        """Take this machine's access away, unless somebody else on it needs it; the last one does it."""
        if not self.journal.others_hold(entry, _NEED_ACCESS):
            pool.volumes.revoke(_volume(entry), HostId(entry.fields["host"]))

    @contextmanager
    def _journalled(self, kind: str, pool: Pool, volume: VolumeId) -> Iterator[_Use]:
        """Write the intent, run the body, undo in reverse order, remove the intent.

        A failing undo does not turn a good result into an error: the entry stays, and says so.
        """
        entry = self.journal.begin(kind, pool=pool.info.identity, volume=volume, host=self.host.id)
        use = _Use(entry=entry, undo=ExitStack())
        try:
            yield use
        finally:
            self._finish(entry, use.undo)

    def sweep_pool(self, pool: Pool, *, dry_run: bool = False) -> list[str]:
        """Undo what dead processes of this machine left on `pool`.

        Returns one line for each object that is gone (or would be, with `dry_run`); what could not be
        undone is logged and stays for the next sweep.
        """
        swept = []
        for entry in self.journal.abandoned():
            if entry.kind not in _KINDS or entry.fields.get("pool") != pool.info.identity:
                entry.release()
            elif self._sweep(pool, entry, dry_run=dry_run):
                swept.append(f"{entry.kind} {_volume(entry)}")
        return swept

    def _sweep(self, pool: Pool, entry: Entry, *, dry_run: bool) -> bool:
        if dry_run:
            held = self.journal.others_hold(entry, _KINDS)
            entry.release()
            return not held
        undo = ExitStack()
        if entry.kind in (TEMP_CLONE, FILL):
            undo.callback(pool.volumes.delete, _volume(entry))
        if pool.managed:
            undo.callback(self._revoke, pool, entry)
        return self._finish(entry, undo, unless=_KINDS)

    def _finish(self, entry: Entry, undo: ExitStack, *, unless: frozenset[str] = frozenset()) -> bool:
        """Undo and remove the entry, unless others hold its object; tell whether that was done.

        An error must hide neither the result nor the error of the body: it is logged, the entry stays.
        """
        try:
            with self.journal.deciding(entry.fields):
                if not self.journal.others_hold(entry, unless):
                    undo.close()
                    entry.done()
                    return True
        except (StorageError, OSError) as error:
            _log.warning("%s of %s stays until the next sweep: %s", entry.kind, _volume(entry), error)
        entry.release()
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Use:
    """One use of a volume: its journal entry, and how to undo it."""

    entry: Entry
    undo: ExitStack


def _volume(entry: Entry) -> VolumeId:
    return VolumeId(entry.fields["volume"])
