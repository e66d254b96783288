"""What is made of a snapshot, in the catalog: while it is made, the snapshot cannot be deleted.

begin   nothing -> unfinished      the target did not exist before: what is half made is ours to remove
finish  unfinished -> finished     kept as long as the snapshot: a repeat finds that it was done
drop    unfinished -> no row       nothing is left of it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select

from ..catalog import Catalog
from ..catalog.snapshots import SnapshotState
from ..spi import Busy, Conflict, InvalidArgument, NotFound
from .exclusion import refuse_while_volume_acts
from .snapshots_records import RESTING, Found, found_in
from .snapshots_tables import UNFINISHED, SnapshotOrder, SnapshotUse, UseKind

_READABLE = RESTING | {SnapshotState.BACKING_UP}


@dataclass(frozen=True, slots=True)
class Uses:
    """Each method is one transaction."""

    catalog: Catalog

    def readable(self, snapshot: str) -> Found:
        """Return a snapshot that something may be made of.

        Raises:
            NotFound: there is none.
            InvalidArgument: it is not there yet, or no longer.
        """
        with self.catalog.transaction() as session:
            found = found_in(session, snapshot)
            if found is None:
                raise NotFound(f"there is no snapshot {snapshot}")
            if found.state not in _READABLE:
                raise InvalidArgument(f"snapshot {snapshot} is {found.state}: nothing can be made of it")
            return found

    def find(self, kind: UseKind, target: str) -> SnapshotUse | None:
        """Return what is recorded of a target."""
        with self.catalog.transaction() as session:
            return session.get(SnapshotUse, (kind, target))

    def begin(self, use: SnapshotUse) -> SnapshotUse:
        """Record that it is about to be made; one that was begun for the same snapshot goes on.

        Raises:
            Conflict: it is made, or was, of another snapshot.
            Busy: the volume is being reverted to another snapshot, or something else is done to it.
            InvalidArgument: the snapshot is no longer there to be read.
        """
        with self.catalog.transaction() as session:
            there = session.get(SnapshotUse, (use.kind, use.target), with_for_update=True)
            if there is not None:
                if there.snapshot == use.snapshot and there.place == use.place:
                    return there
                if use.kind is UseKind.REVERT:
                    raise Busy(f"volume {use.target} is being reverted to snapshot {there.snapshot}")
                raise Conflict(f"{use.kind} {use.target} is made of snapshot {there.snapshot}")
            if use.kind is not UseKind.TEMPLATE:
                refuse_while_volume_acts(session, use.target)
            found = found_in(session, use.snapshot)
            if found is None or found.state not in _READABLE:
                raise InvalidArgument(f"snapshot {use.snapshot} is going: nothing can be made of it")
            session.add(use)
            return use

    def finish(self, kind: UseKind, target: str) -> None:
        """It is whole."""
        with self.catalog.transaction() as session:
            use = session.get(SnapshotUse, (kind, target))
            if use is not None:
                use.finished = True

    def drop(self, kind: UseKind, target: str) -> None:
        """Nothing is left of it, or nobody needs to know; repeatable."""
        with self.catalog.transaction() as session:
            use = session.get(SnapshotUse, (kind, target))
            if use is not None:
                session.delete(use)

    def unfinished(self, volume: str) -> Sequence[SnapshotUse]:
        """Return what is being made of a volume's snapshots."""
        chosen = (
            select(SnapshotUse)
            .join(SnapshotOrder, SnapshotOrder.snapshot == SnapshotUse.snapshot)
            .where(SnapshotOrder.volume == volume, UNFINISHED)
        )
        with self.catalog.transaction() as session:
            return session.scalars(chosen.order_by(SnapshotUse.kind, SnapshotUse.target)).all()
