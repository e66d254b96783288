"""What crashes left on a pool.

journal entries of dead owners      undone as `core/access.py` says, unless somebody living works on it
temporary clones without an entry   of machines that lost their journal: see `is_temporary`
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...transfer_objects.ids import VolumeId
from ..access import FILL, GRANT, HOLD, LIMITS, RETIRE, TEMP_CLONE, Mover
from ..intents import Entry
from ..pool import Pool
from ..spi import NotFound, StorageError, Volume
from .leftovers import End, Leftover, Run, Swept
from .seen import Seen

_TEMPORARY = re.compile(r"tmp-[0-9a-f]{32}")
_NAMED = "temp of "

_WHY = {
    TEMP_CLONE: "the journal names it as a temporary clone",
    GRANT: "the journal names this access for a copy that has ended",
    FILL: "the journal says that it was never filled to its end",
    HOLD: "the journal names this access for a move that has ended",
    LIMITS: "the journal says that its limits were lifted for a copy that has ended",
    RETIRE: "the journal says that its data live on another pool",
}


def is_temporary(volume: Volume) -> bool:
    """Tell whether a volume carries both marks that a temporary clone is given: in its id and its name."""
    return bool(_TEMPORARY.fullmatch(volume.id)) and volume.name.startswith(_NAMED)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPlace:
    """One pool.

    Attributes:
        entries: of dead owners, about this pool; not in hand, since of two that name one volume each would
            look like a living one's to the other.
        seen: the memory that tells how long a clone without an entry is there.
    """

    pool: Pool
    mover: Mover
    entries: Sequence[Entry]
    seen: Seen

    @property
    def name(self) -> str:
        """See `Place.name`."""
        return f"pool {self.pool.name}"

    def sweep(self, run: Run) -> Iterator[Swept]:
        """See `Place.sweep`."""
        for left in self.entries:
            entry = self.mover.journal.claim(left)
            if entry is not None:
                try:
                    yield self._undo(entry, run)
                finally:
                    entry.release()
        # On a pool without grants nothing would show that somebody reads a clone.
        if self.pool.managed:
            yield from self._orphans(run)

    def _undo(self, entry: Entry, run: Run) -> Swept:
        leftover = Leftover(
            place=self.name,
            kind=entry.kind,
            name=entry.fields["volume"],
            why=_WHY[entry.kind],
            owner=entry.owner,
            size=self._size(entry),
            age=max(0.0, run.clock() - entry.began),
        )
        if self.mover.in_use(entry):
            return Swept(leftover=leftover, end=End.KEPT, reason="somebody living works on the volume")
        return run.end(leftover, lambda: "" if self.mover.sweep_entry(self.pool, entry) else "it is in use")

    def _size(self, entry: Entry) -> int | None:
        """Return the bytes that go with it; an access has none."""
        if entry.kind not in (TEMP_CLONE, FILL, RETIRE):
            return None
        try:
            return self.pool.volumes.get(VolumeId(entry.fields["volume"])).size
        except NotFound:
            return 0
        except StorageError:  # whoever cannot tell the size may yet be able to delete it
            return None

    def _orphans(self, run: Run) -> Iterator[Swept]:
        # A clone that several machines read is granted to none of them between two of their tasks.
        named = self._named()
        clones = [v for v in self.pool.volumes.list() if is_temporary(v) and v.id not in named]
        now = run.clock()
        since = self.seen.look(self.pool.info.identity, [v.id for v in clones], now, keep=not run.dry_run)
        for volume in clones:
            age = now - since[volume.id]
            if age >= run.older_than:
                yield self._orphan(volume, age, run)

    def _named(self) -> set[str]:
        return self.mover.journal.named("volume", pool=self.pool.info.identity)

    def _orphan(self, volume: Volume, age: float, run: Run) -> Swept:
        leftover = Leftover(
            place=self.name,
            kind="orphan-clone",
            name=volume.id,
            why=f"id and name ({volume.name!r}) are a temporary clone's, which no journal names or host has",
            owner="a machine whose journal is not here",
            size=volume.size,
            age=age,
        )
        hosts = [grant.host for grant in self.pool.volumes.grants(volume.id)]
        if hosts:
            reason = f"granted to {', '.join(hosts)}"
            return Swept(leftover=leftover, end=End.KEPT, reason=reason)

        def remove() -> str:
            if volume.id in self._named():
                return "the journal names it"
            self.pool.volumes.delete(volume.id)  # InUse, if somebody was granted it meanwhile
            return ""

        return run.end(leftover, remove)
