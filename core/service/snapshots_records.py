"""The durable side of a snapshot's life: each method is one transaction, from one state that a crash may find
to the next.

    allocate  nothing -> Allocated            begin_backup  at rest -> BackingUp, with the ref of the copy
    begin     Allocated, Error -> Creating    stored        the copy is whole
    created   Creating -> CreatedOnPrimary    backed_up     BackingUp -> BackedUp, the primary copy is to go
    failed    Creating -> Error               given_up      BackingUp -> CreatedOnPrimary, the copy is to go
    forget    Allocated -> no row             destroying    any but in use -> Destroying, all refs are to go
                                              destroyed     Destroying -> Destroyed
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from ...transfer_objects.enums import DataStoreRole, SnapshotLocation
from ..archive import Manifest
from ..archive.canonical import time_text
from ..catalog import Catalog
from ..catalog.snapshots import Ref, RefEvent, RefState, SnapshotEvent, SnapshotRecord, SnapshotState
from ..spi import Busy, Conflict, InUse, InvalidArgument, NotFound, Snapshot
from .decision import Goal
from .exclusion import refuse_while_volume_acts
from .snapshots_tables import UNFINISHED, WANTED, SnapshotOrder, SnapshotUse

_BUSY = (SnapshotState.CREATING, SnapshotState.BACKING_UP, SnapshotState.COPYING)
_OF_NOW = ("pool", "store", "goal", "vm", "host")
RESTING = frozenset({SnapshotState.CREATED_ON_PRIMARY, SnapshotState.BACKED_UP})


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A snapshot as it is recorded; refs that are gone are left out."""

    record: SnapshotRecord
    order: SnapshotOrder
    refs: Sequence[Ref]

    @property
    def state(self) -> SnapshotState:
        """What its user sees."""
        return self.record.state

    def ref(self, role: DataStoreRole, *states: RefState) -> Ref | None:
        """Return its bytes on primary or secondary storage, if there are any (in one of these states)."""
        for ref in self.refs:
            if ref.role is role and (not states or ref.state in states):
                return ref
        return None


class Records:
    """Snapshots of the service in the catalog."""

    def __init__(self, catalog: Catalog, clock: Callable[[], float]) -> None:
        self._catalog = catalog
        self._clock = clock

    def find(self, snapshot: str) -> Found | None:
        """Return a snapshot, or None if this service knows none of that id."""
        with self._catalog.transaction() as session:
            return found_in(session, snapshot)

    def get(self, snapshot: str) -> Found:
        """Return a snapshot, or raise `NotFound`."""
        with self._catalog.transaction() as session:
            return _known(session, snapshot)

    def allocate(self, order: SnapshotOrder, volume: str) -> Found:
        """Record that a snapshot is wanted; one that is there already is returned as it is.

        Where nothing of it is anywhere, place and VM are those of now: the volume may have moved since it was
        tried first, and what is begun next is looked for there.

        Raises:
            Conflict: the id is another snapshot's.
        """
        with self._catalog.transaction() as session:
            found = found_in(session, order.snapshot)
            if found is None:
                if session.get(SnapshotRecord, order.snapshot) is not None:
                    raise Conflict(f"snapshot {order.snapshot} was made in another way")
                now = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds")
                record = SnapshotRecord(
                    id=order.snapshot, volume=volume, created=now, state=SnapshotState.ALLOCATED
                )
                session.add(record)
                session.flush()  # its row must be there before the order's
                session.add(order)
                return Found(record=record, order=order, refs=())
            _check_same(found.order, order)
            if found.state in (SnapshotState.ALLOCATED, SnapshotState.ERROR) and not found.refs:
                for field in _OF_NOW:
                    setattr(found.order, field, getattr(order, field))
            return found

    def forget(self, snapshot: str) -> None:
        """Remove what was refused before any backend heard of it."""
        with self._catalog.transaction() as session:
            found = _known(session, snapshot)
            found.record.take(SnapshotEvent.DESTROY_REQUESTED)
            session.delete(found.order)
            session.flush()
            session.delete(found.record)

    def begin(self, snapshot: str) -> Found:
        """The cut is about to be made.

        Raises:
            Busy: another snapshot of the volume is being made, or something is done to the volume.
        """
        with self._catalog.transaction() as session:
            found = _known(session, snapshot)
            if found.state is SnapshotState.CREATING:
                return found
            refuse_while_volume_acts(session, found.record.volume)
            chosen = select(SnapshotRecord.id).where(
                SnapshotRecord.volume == found.record.volume, SnapshotRecord.state == SnapshotState.CREATING
            )
            if (other := session.scalar(chosen)) is not None:
                raise Busy(f"snapshot {other} of volume {found.record.volume} is being made")
            found.record.take(SnapshotEvent.CREATE_REQUESTED)
            found.record.error = ""
            if found.ref(DataStoreRole.PRIMARY) is None:
                _add_ref(session, found, DataStoreRole.PRIMARY)
            return _known(session, snapshot)

    def created(self, snapshot: str, cut: Snapshot, frozen_seconds: float) -> Found:
        """The pool has it; if it is to be archived, that may begin now."""
        with self._catalog.transaction() as session:
            found = _known(session, snapshot)
            ref = _living(found, DataStoreRole.PRIMARY)
            ref.take(RefEvent.SUCCEEDED)
            ref.size = found.record.size = cut.size
            found.record.frozen_seconds = frozen_seconds
            found.record.take(SnapshotEvent.ON_PRIMARY)
            found.order.cut = time_text(int(cut.created.timestamp() * 1000))
            found.order.wanted, found.order.due = found.order.goal.needs_backup, self._clock()
            return found

    def failed(self, snapshot: str, why: str) -> Found:
        """Nothing of it is left on the pool."""
        with self._catalog.transaction() as session:
            found = _known(session, snapshot)
            ref = _living(found, DataStoreRole.PRIMARY)
            ref.take(RefEvent.DESTROY_REQUESTED)
            ref.take(RefEvent.SUCCEEDED)
            found.record.take(SnapshotEvent.FAILED, why)
            found.record.error = why
            return _known(session, snapshot)

    def begin_backup(self, snapshot: str) -> Found:
        """Its copy is about to be made; a repeat finds the ref, and the parent, of the first time.

        Raises:
            InvalidArgument: it is not at rest, or not on the pool.
            Busy: the volume is being deleted, resized or attached.
        """
        with self._catalog.transaction() as session:
            found = _known(session, snapshot)
            if found.state is not SnapshotState.BACKING_UP:
                refuse_while_volume_acts(session, found.record.volume, archiving=True)
                if found.state not in RESTING or found.ref(DataStoreRole.PRIMARY, RefState.READY) is None:
                    raise InvalidArgument(f"snapshot {snapshot} is {found.state}, and not ready on its pool")
                found.record.take(SnapshotEvent.BACKUP_REQUESTED)
            if found.ref(DataStoreRole.IMAGE) is None:
                _add_ref(session, found, DataStoreRole.IMAGE, _newest_before(session, found))
            return _known(session, snapshot)

    def stored(self, snapshot: str, manifest: Manifest) -> Found:
        """The copy is whole on the store."""
        with self._catalog.transaction() as session:
            found = _known(session, snapshot)
            ref = _living(found, DataStoreRole.IMAGE)
            if ref.state is RefState.CREATING:
                ref.take(RefEvent.SUCCEEDED)
            own = f"{snapshot}/"
            ref.size = manifest.size
            ref.physical_size = sum(p.size for _, p in manifest.parts() if p.layer.startswith(own))
            return found

    def backed_up(self, snapshot: str) -> Found:
        """It rests on secondary storage; in the same step its copy on the pool is one that is to go."""
        with self._catalog.transaction() as session:
            found = _known(session, snapshot)
            ref = found.ref(DataStoreRole.PRIMARY, RefState.READY)
            if ref is not None and found.order.goal is not Goal.BOTH:
                ref.take(RefEvent.DESTROY_REQUESTED)
            found.record.take(SnapshotEvent.ON_SECONDARY)
            order = found.order
            order.wanted, order.cancelled, order.problem = False, False, ""
            return found

    def given_up(self, snapshot: str, why: str, *, retry_at: float | None, failed: bool = True) -> Found:
        """It rests on the pool alone; its copy is to be removed.

        Args:
            retry_at: when to try again, seconds since the epoch; None: not.
            failed: count the attempt.
        """
        with self._catalog.transaction() as session:
            found = _known(session, snapshot)
            if (ref := found.ref(DataStoreRole.IMAGE)) is not None:
                ref.take(RefEvent.DESTROY_REQUESTED)
            found.record.take(SnapshotEvent.ON_PRIMARY, why)
            order = found.order
            order.problem, order.attempts = why, order.attempts + failed
            order.wanted, order.due = retry_at is not None, retry_at or 0.0
            order.cancelled = False
            return found

    def ref_gone(self, ref: Ref) -> None:
        """A store has nothing of a ref any more."""
        with self._catalog.transaction() as session:
            current = session.get(Ref, ref.id)
            if current is not None and current.state is RefState.DESTROYING:
                current.take(RefEvent.SUCCEEDED)

    def images(self, volume: str, store: str) -> list[str]:
        """Return the ids of a volume's snapshots that have anything on a store."""
        chosen = select(Ref.snapshot).where(
            Ref.volume == volume,
            Ref.store == store,
            Ref.role == DataStoreRole.IMAGE,
            Ref.state != RefState.DESTROYED,
        )
        with self._catalog.transaction() as session:
            return [*session.scalars(chosen)]

    def of_vm(self, vm: str, *, busy: bool = False) -> list[str]:
        """Return the ids of snapshots of a VM's volumes: what `core.vm_snapshots.Hooks` asks for.

        Args:
            busy: only those that are being made or copied.
        """
        chosen = (
            select(SnapshotOrder.snapshot)
            .join(SnapshotRecord, SnapshotRecord.id == SnapshotOrder.snapshot)
            .where(SnapshotOrder.vm == vm)
        )
        if busy:
            chosen = chosen.where(SnapshotRecord.state.in_(_BUSY))
        else:
            chosen = chosen.where(SnapshotRecord.state != SnapshotState.DESTROYED)
        with self._catalog.transaction() as session:
            return [*session.scalars(chosen.order_by(SnapshotOrder.snapshot))]

    def want_backup(self, snapshot: str, goal: Goal) -> Found:
        """Somebody wants a snapshot that is on its pool archived, from now on.

        Raises:
            InvalidArgument: it is not on its pool.
        """
        with self._catalog.transaction() as session:
            found = _known(session, snapshot)
            if found.state is SnapshotState.BACKED_UP and found.order.goal is goal:
                return found
            if found.state not in RESTING or found.ref(DataStoreRole.PRIMARY, RefState.READY) is None:
                raise InvalidArgument(f"snapshot {snapshot} is {found.state}, and not ready on its pool")
            order = found.order
            order.goal, order.location = goal, SnapshotLocation.ARCHIVE
            order.wanted, order.attempts, order.due, order.problem = True, 0, self._clock(), ""
            return found

    def cancel(self, snapshot: str) -> Found:
        """Somebody wants its backup no more: at rest it ends here, else whoever copies sees it."""
        with self._catalog.transaction() as session:
            found = _known(session, snapshot)
            if found.state is SnapshotState.BACKING_UP:
                found.order.cancelled = True
            elif found.order.wanted:
                found.order.wanted, found.order.problem = False, "cancelled"
            return found

    def due(self, limit: int) -> list[str]:
        """Return the snapshots at rest whose backup may begin now, the one that has waited longest first."""
        chosen = (
            select(SnapshotOrder.snapshot)
            .join(SnapshotRecord, SnapshotRecord.id == SnapshotOrder.snapshot)
            .where(WANTED, SnapshotOrder.due <= self._clock())
            .where(SnapshotRecord.state.in_(RESTING))
        )
        with self._catalog.transaction() as session:
            return [*session.scalars(chosen.order_by(SnapshotOrder.due).limit(limit))]

    def destroying(self, snapshot: str) -> Found:
        """It is to go, with all that any store has of it.

        Raises:
            Busy: it is being made or copied.
            InUse: something is being made of it.
        """
        with self._catalog.transaction() as session:
            found = _known(session, snapshot)
            if found.state in _BUSY:
                raise Busy(f"snapshot {snapshot} is {found.state}: it is being made or copied still")
            unfinished = select(SnapshotUse.target).where(SnapshotUse.snapshot == snapshot, UNFINISHED)
            if (target := session.scalar(unfinished)) is not None:
                raise InUse(f"snapshot {snapshot} is in use: {target} is being made of it")
            found.record.take(SnapshotEvent.DESTROY_REQUESTED)
            found.order.wanted = False
            for ref in found.refs:
                ref.take(RefEvent.DESTROY_REQUESTED)
            return found

    def destroyed(self, snapshot: str) -> None:
        """No store has anything of it."""
        with self._catalog.transaction() as session:
            found = _known(session, snapshot)
            found.record.take(SnapshotEvent.DESTROYED)
            session.execute(delete(SnapshotUse).where(SnapshotUse.snapshot == snapshot))


def found_in(session: Session, snapshot: str) -> Found | None:
    """Return a snapshot of the service, locked until the transaction ends."""
    record = session.get(SnapshotRecord, snapshot, with_for_update=True)
    order = session.get(SnapshotOrder, snapshot)
    if record is None or order is None:
        return None
    chosen = select(Ref).where(Ref.snapshot == snapshot, Ref.state != RefState.DESTROYED)
    return Found(record=record, order=order, refs=session.scalars(chosen.order_by(Ref.id)).all())


def _known(session: Session, snapshot: str) -> Found:
    found = found_in(session, snapshot)
    if found is None:
        raise NotFound(f"there is no snapshot {snapshot}")
    return found


def _living(found: Found, role: DataStoreRole) -> Ref:
    ref = found.ref(role)
    if ref is None:
        raise Conflict(f"snapshot {found.record.id} has no ref on {role.value} storage")
    return ref


def _add_ref(session: Session, found: Found, role: DataStoreRole, parent: int | None = None) -> None:
    order = found.order
    primary = role is DataStoreRole.PRIMARY
    ref = Ref(
        snapshot=order.snapshot,
        volume=order.volume,
        store=order.pool if primary else order.store,
        role=role,
        path=order.snapshot if primary else f"{order.volume}/{order.snapshot}",
        parent=parent,
    )
    session.add(ref)
    session.flush()


def _newest_before(session: Session, found: Found) -> int | None:
    """Return the archived snapshot of the volume that was cut last before this one: its best parent."""
    chosen = (
        select(Ref.id)
        .join(SnapshotOrder, SnapshotOrder.snapshot == Ref.snapshot)
        .where(
            Ref.volume == found.record.volume,
            Ref.store == found.order.store,
            Ref.role == DataStoreRole.IMAGE,
            Ref.state == RefState.READY,
            SnapshotOrder.cut < found.order.cut,
        )
    )
    return session.scalar(chosen.order_by(SnapshotOrder.cut.desc()).limit(1))


def _check_same(there: SnapshotOrder, asked: SnapshotOrder) -> None:
    for field in ("volume", "location", "quiesce"):
        if getattr(there, field) != getattr(asked, field):
            raise Conflict(f"snapshot {there.snapshot} exists with another {field}")
