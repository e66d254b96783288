"""What is made of a snapshot, in the catalog: while it is made, the snapshot cannot be deleted.

begin   nothing -> unfinished      the target did not exist before: what is half made is ours to remove
finish  unfinished -> finished     kept as long as the snapshot: a repeat finds that it was done; a volume
                                   gets its record in the same step, so that the volume service knows it
drop    unfinished -> no row       nothing is left of it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from ...transfer_objects.enums import DataStoreRole
from ..catalog import Catalog
from ..catalog.object_states import ObjectEvent, ObjectState
from ..catalog.snapshots import SnapshotState
from ..catalog.transitions import now_text
from ..catalog.volume_states import VolumeEvent, VolumeState
from ..catalog.volumes import VolumeRecord
from ..catalog.works import WorkRow
from ..spi import Busy, Conflict, InvalidArgument, NotFound, Volume
from .exclusion import refuse_while_volume_acts
from .snapshots_records import RESTING, Found, found_in
from .snapshots_tables import UNFINISHED, SnapshotOrder, SnapshotUse, UseKind
from .templates_records import fresh_ref, known_template, refuse_other_size

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
            Conflict: it is made, or was, of another snapshot, or there is or was a volume of this id.
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
            if use.kind is UseKind.VOLUME:
                _refuse_taken(session, use.target)
            found = found_in(session, use.snapshot)
            if found is None or found.state not in _READABLE:
                raise InvalidArgument(f"snapshot {use.snapshot} is going: nothing can be made of it")
            if use.kind is UseKind.TEMPLATE:
                _refuse_going(session, use.target)
                refuse_other_size(session, use.target, found.record.size)
            session.add(use)
            return use

    def finish_template(self, request: SnapshotUse, size: int) -> None:
        """It is whole, with a record and a reference that stay when its snapshot goes; repeatable.

        Args:
            request: as it was begun, for the store; `size` in bytes.

        Raises:
            Busy: it is being deleted.
        """
        with self.catalog.transaction() as session:
            _refuse_going(session, request.target)
            use = session.get(SnapshotUse, (UseKind.TEMPLATE, request.target))
            if use is not None:
                use.finished = True
            known_template(session, request.target, size)
            ref = fresh_ref(session, request.target, request.place, DataStoreRole.IMAGE, size)
            if ref.state is ObjectState.ALLOCATED:
                ref.take(ObjectEvent.SUCCEEDED)

    def finish_volume(self, made: Volume, request: SnapshotUse, name: str) -> None:
        """It is whole, and a volume like any other from now on; repeatable.

        Args:
            request: as it was begun, for the snapshot and the pool.
        """
        with self.catalog.transaction() as session:
            use = session.get(SnapshotUse, (UseKind.VOLUME, made.id))
            if use is not None:
                use.finished = True
            record = session.get(VolumeRecord, made.id)
            if record is None:
                record = VolumeRecord(id=made.id, pool=request.place, created=now_text(session))
                session.add(record)
            elif record.state is not VolumeState.ERROR:
                return
            record.pool, record.name, record.size, record.error = request.place, name, made.size, ""
            record.parent_snapshot, record.parent_template = request.snapshot, None
            record.take(VolumeEvent.CREATE_REQUESTED)
            record.take(VolumeEvent.SUCCEEDED, f"made of snapshot {request.snapshot}")

    def lost(self, volume: str, pool: str) -> None:
        """A volume that was made is no longer on its pool, and nobody has deleted it here.

        Raises:
            Conflict: a VM has it, or it was moved to another pool.
        """
        with self.catalog.transaction() as session:
            record = session.get(VolumeRecord, volume)
            if record is not None and record.state is VolumeState.READY:
                if record.vm is not None or record.pool != pool:
                    raise Conflict(f"there is a volume {volume} already, on pool {record.pool}")
                record.take(VolumeEvent.LOST, "the pool has it no more")
            use = session.get(SnapshotUse, (UseKind.VOLUME, volume))
            if use is not None:
                session.delete(use)

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


def _refuse_going(session: Session, template: str) -> None:
    row = session.get(WorkRow, ("template", template))
    if row is not None and row.act == "delete":
        raise Busy(
            f"template {template} is being deleted; if its process died, a sync ends it", retry_after=1.0
        )


def _refuse_taken(session: Session, volume: str) -> None:
    record = session.get(VolumeRecord, volume)
    if record is not None and record.state is not VolumeState.ERROR:
        raise Conflict(f"there is or was a volume {volume}, which is {record.state}: ids are not used twice")
