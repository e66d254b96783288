"""Reading snapshots and writing volumes from this machine, leaving nothing behind.

    snapshot ── can be read as it stands? ── yes ──> open
                          │ no
                          └─> journal ─> temp clone ─> grant (read-only) ─> open
                                              undone in reverse order, then the journal entry goes

Whatever a crash leaves is named in the journal, and `sweep_pool` removes it. What each kind of entry
says of its volume, and what is done about it once its owner is dead:

    temp-clone   may exist                          delete it
    grant        this host may have access          revoke
    fill         may be half filled                 delete it
    hold         as grant, and nobody may write     revoke
    limits       its QoS is lifted for a copy       set it again
    retire       its data live elsewhere            delete it
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field

from ..transfer_objects.ids import HostId, SnapshotId, VolumeId, new_id
from .dataplane import BlockSink, BlockSource, open_held_source, open_sink, open_source
from .intents import Entry, Intents
from .locks import ObjectLocks
from .pool import Pool
from .spi import (
    Busy,
    Call,
    Capability,
    Host,
    InUse,
    Location,
    NotFound,
    OutOfCapacity,
    Qos,
    StorageError,
    Volume,
    VolumeSpec,
)

_log = logging.getLogger("bollard.access")
_sweeps = ObjectLocks()

TEMP_CLONE = "temp-clone"
GRANT = "grant"
FILL = "fill"
HOLD = "hold"
LIMITS = "limits"
RETIRE = "retire"
KINDS = frozenset({TEMP_CLONE, GRANT, FILL, HOLD, LIMITS, RETIRE})
_REMOVE = frozenset({TEMP_CLONE, FILL, RETIRE})  # whose end, or whose owner's, takes the volume with it
_NEED_ACCESS = frozenset({TEMP_CLONE, GRANT, HOLD})  # who fills a volume writes it under a grant of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Mover:
    """What moves data on this machine: its identity towards arrays, and its journal."""

    host: Host
    journal: Intents

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
            yield use.opened.enter_context(open_source(self._location(pool, use, read_only=True)))

    @contextmanager
    def sharing_snapshot(self, pool: Pool, snapshot: SnapshotId) -> Iterator[VolumeId | None]:
        """Make a snapshot readable from several machines; each opens it with `reading_shared`.

        Yields the temporary clone that all of them read, None where the snapshot is read as it stands.
        A reader that still holds the clone in the end keeps it from being deleted, until a sweep.

        Raises:
            Unsupported: the pool can neither read a snapshot directly nor clone it.
        """
        if Capability.DIRECT_SNAPSHOT_READ in pool.capabilities().native:
            yield None
            return
        size = pool.snapshots.get(snapshot).size
        clone = VolumeId(new_id("tmp"))
        with self._journalled(TEMP_CLONE, pool, clone) as use:
            use.undo.callback(pool.volumes.delete, clone)
            if pool.managed:  # readers on this machine leave the grant to this entry, which outlives theirs
                use.undo.callback(self._revoke, pool, use.entry)
            pool.volumes.from_snapshot(snapshot, VolumeSpec(id=clone, size=size, name=f"temp of {snapshot}"))
            yield clone

    @contextmanager
    def reading_shared(
        self, pool: Pool, snapshot: SnapshotId, clone: VolumeId | None
    ) -> Iterator[BlockSource]:
        """Open what `sharing_snapshot` made, on this machine."""
        if clone is not None:
            with self.reading_volume(pool, clone) as source:
                yield source
            return
        with open_source(pool.snapshots.locate(snapshot)) as source:
            yield source

    @contextmanager
    def reading_volume(self, pool: Pool, volume: VolumeId) -> Iterator[BlockSource]:
        """Open a volume for reading; it should not be written by anybody else meanwhile."""
        with self._journalled(GRANT, pool, volume) as use:
            yield use.opened.enter_context(open_source(self._location(pool, use, read_only=True)))

    @contextmanager
    def writing_volume(self, pool: Pool, volume: VolumeId) -> Iterator[BlockSink]:
        """Open a volume for writing. The caller flushes; closing and revoking happen here.

        Raises:
            InUse: somebody on this machine holds it (`holding_volume`).
        """
        with self._journalled(GRANT, pool, volume) as use:
            self._refuse_if_used(use.entry, frozenset({HOLD}))
            yield use.opened.enter_context(open_sink(self._location(pool, use, read_only=False)))

    @contextmanager
    def holding_volume(self, pool: Pool, volume: VolumeId) -> Iterator[Callable[[], BlockSource]]:
        """Keep writers away from a volume while it is read; yields what opens it.

        On managed storage by the one grant for writing that there can be, which is ours. Where
        `Traits.multi_attach` allows more, or a full pool gives none out for writing, there may be others:
        look at the grants once again when you have read. A file is locked as long as it is open.

        Raises:
            InUse: somebody has access to it, or on this machine works on it.
        """
        with self._journalled(HOLD, pool, volume) as use:
            self._refuse_if_used(use.entry, _NEED_ACCESS)
            if pool.managed and (grants := pool.volumes.grants(volume)):
                raise InUse(f"volume {volume} is granted to {', '.join(g.host for g in grants)}")
            try:
                location = self._location(pool, use, read_only=False)
            except OutOfCapacity:  # of what may write; but to move away from a full pool is why one moves
                location = self._location(pool, use, read_only=True)
            yield lambda: open_held_source(location)

    def _refuse_if_used(self, entry: Entry, kinds: frozenset[str]) -> None:
        with self.journal.deciding(entry.fields):
            if self.journal.others_hold(entry, kinds):
                raise InUse(f"something else on this machine works on volume {_volume(entry)}")

    @contextmanager
    def unlimited(self, pool: Pool, volume: VolumeId) -> Iterator[None]:
        """Lift a volume's limits for a copy; they come back, after a crash by the sweep."""
        limits = pool.volumes.get(volume).qos or Qos()
        if limits == Qos():
            yield
            return
        with self._journalled(LIMITS, pool, volume, limits=json.dumps(asdict(limits))) as use:
            use.undo.callback(_limit_again, pool, use.entry)
            pool.volumes.set_qos(volume, None)
            yield

    @contextmanager
    def filling_volume(self, pool: Pool, volume: VolumeId) -> Iterator[Filling]:
        """Hold a new volume that is being filled: when the body fails, the volume goes again.

        Half a restored volume that looks whole is worse than none.

        Raises:
            StorageError: it is whole, and that could not be noted. It goes, at once or with the next sweep,
                which takes it for half filled; told that all went well, its owner would lose it then.
            Conflict: others took this process for dead; what there is of the volume is theirs.
        """
        with self._journalled(FILL, pool, volume) as use:
            use.undo.callback(pool.volumes.delete, volume)
            yield Filling(mover=self, use=use)
            if use.entry.kind == FILL:
                use.entry.complete()
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

    def retire(self, pool: Pool, entry: Entry) -> None:
        """Delete a volume whose data live elsewhere; one that was made anew under its id stays."""
        volume = _volume(entry)
        try:
            if pool.volumes.get(volume).identity != entry.fields["identity"]:
                return
        except NotFound:
            return
        if pool.managed:
            self._revoke(pool, entry)
        if entry.fields["snapshots"]:
            for snapshot in list(pool.snapshots.list(volume)):
                pool.snapshots.delete(snapshot.id)
        pool.volumes.delete(volume)

    @contextmanager
    def _journalled(self, kind: str, pool: Pool, volume: VolumeId, **more: str) -> Iterator[_Use]:
        """Write the intent, run the body, undo in reverse order, remove the intent.

        A failing undo does not turn a good result into an error: the entry stays, and says so.
        """
        use = _Use(entry=self.journal.begin(kind, **self.fields(pool, volume), **more))
        try:
            yield use
        finally:
            _close(use)
            if use.astray:
                use.entry.release()
            else:
                self._finish(use.entry, use.undo)

    def fields(self, pool: Pool, volume: VolumeId) -> dict[str, str]:
        """Return what an entry says of its volume."""
        return {"pool": pool.info.identity, "volume": volume, "host": self.host.id}

    def make_room(self, pool: Pool, volume: VolumeId) -> None:
        """See to it that no entry takes a volume which is about to be made for its own, and removes it later.

        Raises:
            Busy: somebody living on this machine fills or removes a volume of this id.
            StorageError: what a dead one has left under it cannot be removed now.
        """
        for entry in self.journal.abandoned():
            about = (entry.fields.get("pool"), entry.fields.get("volume"))
            if entry.kind in _REMOVE and about == (pool.info.identity, volume):
                self.sweep_entry(pool, entry)
            else:
                entry.release()
        with self._journalled(GRANT, pool, volume) as use, self.journal.deciding(use.entry.fields):
            if self.journal.others_hold(use.entry, _REMOVE):
                raise Busy(f"a volume {volume} is being filled or removed", retry_after=1.0)

    def sweep_pool(self, pool: Pool, *, dry_run: bool = False) -> list[str]:
        """Undo what dead processes of this machine left on `pool`.

        Returns one line for each object that is gone (or would be, with `dry_run`); what could not be
        undone is logged and stays for the next sweep.
        """
        swept = []
        # One at a time: whoever comes second must find all done, not an entry in somebody else's hands, which
        # looks like a living user of the volume.
        with _sweeps.holding((pool.info.identity,), Call.within()):
            for entry in self.journal.abandoned():
                if entry.kind not in KINDS or entry.fields.get("pool") != pool.info.identity:
                    entry.release()
                elif self._sweep(pool, entry, dry_run=dry_run):
                    swept.append(f"{entry.kind} {_volume(entry)}")
        return swept

    def _sweep(self, pool: Pool, entry: Entry, *, dry_run: bool) -> bool:
        if dry_run:
            held = self.in_use(entry)
            entry.release()
            return not held
        try:
            return self.sweep_entry(pool, entry)
        except (StorageError, OSError) as error:
            _stays(entry, error)
            return False

    def in_use(self, entry: Entry) -> bool:
        """Tell whether somebody living works on what a dead one's entry names."""
        return self.journal.others_hold(entry, KINDS)

    def sweep_entry(self, pool: Pool, entry: Entry) -> bool:
        """Undo what an entry says of a volume of `pool`, and let go of it.

        Returns False where somebody living works on the volume: the entry stays.

        Raises:
            StorageError, OSError: it could not be undone; the entry stays.
        """
        undo = ExitStack()
        if entry.kind in (TEMP_CLONE, FILL):
            undo.callback(pool.volumes.delete, _volume(entry))
        if entry.kind == RETIRE:
            undo.callback(self.retire, pool, entry)
        elif entry.kind == LIMITS:
            undo.callback(_limit_again, pool, entry)
        elif pool.managed:
            undo.callback(self._revoke, pool, entry)
        return self._end(entry, undo, unless=KINDS)

    def _finish(self, entry: Entry, undo: ExitStack) -> None:
        """Undo and remove the entry.

        An error must hide neither the result nor the error of the body: it is logged, the entry stays.
        """
        try:
            self._end(entry, undo)
        except (StorageError, OSError) as error:
            _stays(entry, error)

    def _end(self, entry: Entry, undo: ExitStack, *, unless: frozenset[str] = frozenset()) -> bool:
        """Undo and remove the entry, unless others hold its object; tell whether that was done."""
        try:
            with self.journal.deciding(entry.fields):
                if self.journal.others_hold(entry, unless):
                    return False
                undo.close()
                entry.done()
                return True
        finally:
            entry.release()


@dataclass(slots=True, kw_only=True)
class _Use:
    """One use of a volume: its journal entry, and how to undo it.

    Attributes:
        opened: on this machine; closed in any case, also where the undo is left to others.
        astray: what the journal says of it is not known; the next sweep goes by it, not we.
    """

    entry: Entry
    undo: ExitStack = field(default_factory=ExitStack)
    opened: ExitStack = field(default_factory=ExitStack)
    astray: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Filling:
    """A volume that is being filled."""

    mover: Mover
    use: _Use

    def take_over(self, pool: Pool, old: Volume, *, with_snapshots: bool) -> None:
        """Say that it is whole, and takes the place of `old` on `pool`, which goes when it is let go.

        One step of the journal: before it a crash costs the new volume, after it the old one.

        Raises:
            StorageError: outcome unknown; both stay until a sweep finds out which of them goes.
        """
        use, mover = self.use, self.mover
        use.undo.pop_all()
        use.astray = True
        more = {"identity": old.identity, "snapshots": "delete" if with_snapshots else ""}
        mover.journal.replace(use.entry, RETIRE, **mover.fields(pool, old.id), **more)
        use.astray = False
        use.undo.callback(mover.retire, pool, use.entry)


def _limit_again(pool: Pool, entry: Entry) -> None:
    """Set limits that were lifted, unless somebody has set others meanwhile or the volume is gone."""
    volume = _volume(entry)
    try:
        if (pool.volumes.get(volume).qos or Qos()) == Qos():
            pool.volumes.set_qos(volume, Qos(**json.loads(entry.fields["limits"])))
    except NotFound:
        return


def _close(use: _Use) -> None:
    try:
        use.opened.close()
    except (StorageError, OSError) as error:  # what was to be durable was flushed before
        _log.warning("volume %s was not closed in order: %s", _volume(use.entry), error)


def _stays(entry: Entry, error: Exception) -> None:
    _log.warning("%s of %s stays until the next sweep: %s", entry.kind, _volume(entry), error)


def _volume(entry: Entry) -> VolumeId:
    return VolumeId(entry.fields["volume"])
