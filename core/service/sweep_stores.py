"""What crashes left on a secondary store.

unfinished uploads      of keys that only an archive has, idle for longer than the limit
parts of an archive     that no manifest and no living intent names: what `Archive.collect` frees
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..archive import Archive
from ..archive.names import VERSION, parse
from ..spi import Unfinished, Unsupported
from ..store import Store
from .leftovers import End, Leftover, Run, Swept

_PREFIX = f"{VERSION}/"


@dataclass(frozen=True, slots=True, kw_only=True)
class StorePlace:
    """One store."""

    store: Store

    @property
    def name(self) -> str:
        """See `Place.name`."""
        return f"store {self.store.name}"

    def sweep(self, run: Run) -> Iterator[Swept]:
        """See `Place.sweep`."""
        yield from self._uploads(run)
        archive = Archive(self.store, clock=run.clock)
        for volume in archive.volumes(run.call):
            yield from self._parts(archive, volume, run)

    def _uploads(self, run: Run) -> Iterator[Swept]:
        try:
            found = list(self.store.unfinished(_PREFIX, run.call, older_than=run.older_than))
        except Unsupported as error:
            what = Leftover(place=self.name, kind="upload", name=f"{_PREFIX}…", why="")
            yield Swept(leftover=what, end=End.KEPT, reason=error.message)
            return
        for one in found:
            if parse(one.key):  # a stranger may keep his objects beside an archive
                yield self._upload(one, run)

    def _upload(self, upload: Unfinished, run: Run) -> Swept:
        leftover = Leftover(
            place=self.name,
            kind="upload",
            name=upload.key,
            why="the key is an archive's, and nothing was sent for so long",
            owner="a put that ended before its object was whole",
            size=upload.size,
            age=upload.idle,
        )

        def remove() -> str:
            self.store.abort_uploads(upload.key, run.call, older_than=run.older_than)
            return ""

        return run.end(leftover, remove)

    def _parts(self, archive: Archive, volume: str, run: Run) -> Iterator[Swept]:
        stats = archive.stats(run.call, volume=volume)
        leftover = Leftover(
            place=self.name,
            kind="archive-parts",
            name=volume,
            why=f"no snapshot and no living backup needs these {stats.unneeded.count} objects",
            owner="backups that were killed, and deleted snapshots",
            size=stats.unneeded.size,
        )
        if stats.unclear.count:
            reason = f"nothing is freed while a manifest or intent is damaged: {stats.damaged[0]}"
            yield Swept(leftover=leftover, end=End.KEPT, reason=reason)
        elif stats.unneeded.count:
            yield run.end(leftover, lambda: self._collect(archive, volume, run))

    def _collect(self, archive: Archive, volume: str, run: Run) -> str:
        if not self.store.traits().listing_consistent:
            return "the store's listing may lag: bollard archive collect --trust-listing"
        done = archive.collect(run.call, volume=volume)
        return "" if done.parts or done.intents else "a running backup or a lock of the store protects it"
