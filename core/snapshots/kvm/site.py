"""What the functions of this package work with, and the manner in which they do things.

    intent (journal) ── decision (one transaction) ── act ── commit (one transaction) ── tidy up ── done

Everything after the intent can be repeated; what a kill leaves is settled by `sync`. Decisions are made
in one transaction that locks all refs of the volume, from the root of its chain on: of two that want the
same chain, one decides first, and the other decides on what the first has left.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.orm import Session

from ....transfer_objects.enums import StoragePoolType
from ....transfer_objects.ids import VmId, VolumeId
from ...catalog import Catalog
from ...catalog.snapshots import Ref, RefState, refs_of_volume, snapshot_of
from ...intents import Intents
from ...settings import Settings, Where
from ...spi.call import Call
from ...spi.errors import InvalidArgument, NotFound, Outcome, StorageError
from ...spi.hypervisor import VmState
from ...spi.hypervisor_mixins import Backups
from . import rules
from .stores import ChainStore, Link
from .tracking import Disk, ImageTracker, Tracker, VmTracker

# One that moves is read where it was; its files stay open when they go from there.
_READABLE = (RefState.READY, RefState.MIGRATING)
_log = logging.getLogger("bollard.snapshots")


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumePlace:
    """A volume, and what its snapshots depend on.

    Attributes:
        where: zone, cluster and pool, for the settings.
        primary: id of the store that is the pool's own directory of snapshots.
        secondary: id of the store for backups; which one of a zone's, the orchestrator chooses each time.
    """

    volume: VolumeId
    pool_type: StoragePoolType
    where: Where
    primary: str
    secondary: str


def _unknown(_volume: VolumeId) -> Sequence[Path]:
    """Know no images: volumes that no VM has are refused."""
    return ()


def _utc() -> datetime:
    return datetime.now(UTC)


class Intent:
    """What is under way.

    Attributes:
        left: it failed, and something may be left for the next sync.
        put_off: it succeeded, and something is left for the next sync.
    """

    left = True
    put_off = False

    def undone(self) -> None:
        """Nothing is left of what failed."""
        self.left = False

    @contextmanager
    def deciding(self) -> Iterator[None]:
        """Around a decision, one transaction: if it fails, there is nothing to settle."""
        try:
            yield
        except StorageError as error:
            self.left = error.outcome is not Outcome.NOT_APPLIED
            raise

    def put_off_because(self, error: Exception) -> None:
        """Let the caller have what he asked for, and an operator know that it is not all."""
        self.put_off = True
        _log.warning("something is left for the next sync: %s", error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """An orchestrator's records and the things that they are about.

    Attributes:
        name: in the intents, where several sites share a journal: each settles its own. "": there is one.
        stores: all stores of snapshots by id.
        backups: the hypervisor.
        vm_state: its power state of a VM.
        disk_of: where a volume is attached now; None: nowhere.
        image_of: the qcow2 files of a volume that is attached nowhere, from the one that is written to the
            base; none: it cannot be read here.
    """

    catalog: Catalog
    journal: Intents
    settings: Settings
    stores: Mapping[str, ChainStore]
    backups: Backups
    vm_state: Callable[[VmId, Call], VmState]
    disk_of: Callable[[VolumeId], Disk | None]
    image_of: Callable[[VolumeId], Sequence[Path]] = _unknown
    now: Callable[[], datetime] = _utc
    name: str = ""

    @contextmanager
    def intent(self, kind: str, **fields: str) -> Iterator[Intent]:
        """Write down what is about to begin; after a failure that left something, `sync` has it."""
        entry = self.journal.begin(kind, **fields, **({"site": self.name} if self.name else {}))
        intent = Intent()
        try:
            yield intent
            intent.left = intent.put_off
        finally:
            if intent.left:
                entry.release()
            else:
                entry.done()

    def store(self, name: str) -> ChainStore:
        """Return a store, or raise `NotFound`."""
        try:
            return self.stores[name]
        except KeyError as error:
            raise NotFound(f"there is no store {name!r} of snapshots") from error

    def links(self, refs: Sequence[Ref], ref: Ref) -> list[Link]:
        """Return what it takes to read a snapshot, itself first."""
        return [Link(one, self.store(one.store)) for one in rules.chain(refs, ref)]

    def tracker(self, volume: VolumeId) -> Tracker | None:
        """Return who tracks a volume now: its VM, or its image; None if neither is known."""
        disk = self.disk_of(volume)
        if disk is not None:
            return VmTracker(self.backups, disk)
        chain = self.image_of(volume)
        return ImageTracker(chain) if chain else None

    def tracked(self, volume: VolumeId) -> Tracker:
        """Return who tracks a volume now, or refuse."""
        tracker = self.tracker(volume)
        if tracker is None:
            raise InvalidArgument(f"volume {volume} is attached to no VM, and its image is not known")
        return tracker

    def untrack(self, volume: VolumeId, call: Call, *, before: int = sys.maxsize) -> None:
        """Take the checkpoints of refs with an id below `before` away."""
        tracker = self.tracker(volume)
        if tracker is None:
            return
        with self.catalog.transaction() as session:
            old = [ref for ref in refs_of_volume(session, volume) if ref.tracking and ref.id < before]
        for ref in old:
            tracker.delete(ref.snapshot, call)
        with self.catalog.transaction() as session:
            for ref in refs_of_volume(session, volume):
                ref.tracking = ref.tracking and ref.id >= before

    def remove(self, ref: Ref, call: Call, *, store: str = "") -> None:
        """Remove what a store has of a snapshot: the ref's own, or another; repeatable."""
        self.store(store or ref.store).remove(ref, call)

    def readable(
        self, session: Session, snapshot: str, store: str | None = None
    ) -> tuple[Sequence[Ref], Ref]:
        """Return the refs of a snapshot's volume, and one of its own that can be read, or that on a store.

        Raises:
            NotFound: no such snapshot, or its user has deleted it.
        """
        volume = snapshot_of(session, snapshot).volume
        refs = refs_of_volume(session, volume)
        for ref in refs:
            if ref.snapshot == snapshot and ref.state in _READABLE and store in (None, ref.store):
                return refs, ref
        where = f" on {store}" if store else ""
        raise NotFound(f"there is no snapshot {snapshot} that could be read{where}")
