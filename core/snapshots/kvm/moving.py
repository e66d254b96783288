"""Snapshots on other stores: a copy that stands alone, or whole chains that move.

    copy      snap-2 (since snap-1) on sec-1  ->  snap-2, a full without checkpoint, on zone2 as well
    migrate   all of a chain on sec-1         ->  the same chain on sec-2, its deltas still deltas

A migration copies first, oldest first; then one transaction says that all of them lie there now; then
the old files go. So whenever it is killed, one store or the other has the whole chain.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from sqlalchemy.orm import Session

from ....transfer_objects.ids import SnapshotId, VolumeId
from ...catalog.snapshots import (
    Reason,
    Ref,
    RefEvent,
    RefState,
    SnapshotEvent,
    SnapshotState,
    refs_of_volume,
    snapshot_of,
)
from ...spi.call import Call
from ...spi.errors import Conflict, StorageError
from . import records, rules
from .site import Site
from .stores import ChainStore, Link, Stored

COPY = "kvm.copy"
MIGRATE = "kvm.migrate"
_UNDO_SECONDS = 120.0


def copy(site: Site, snapshot: SnapshotId, store: str, call: Call) -> None:
    """Make a snapshot readable on another store too; what is there already is fine.

    One that its user deleted there, and that was kept for those based on it, is simply shown again.

    Raises:
        NotFound: no such snapshot or store, or its user has deleted it everywhere.
        Conflict: it is being copied already, or is not at rest for another reason.
    """
    target = site.store(store)
    with site.catalog.transaction() as session:
        volume = snapshot_of(session, snapshot).volume
    with site.intent(COPY, snapshot=snapshot, volume=volume, store=store) as intent:
        with intent.deciding(), site.catalog.transaction() as session:
            refs, source = site.readable(session, snapshot)
            ref = _begin_copy(session, refs, snapshot, target)
        if ref is None:
            return
        try:
            links = site.links(refs, source)
            with links[0].store.open(links, call) as opened:
                _finish_copy(site, ref, target.write([Link(ref, target)], opened, None, call))
        except StorageError:
            _undo_copy(site, ref, Call.within(_UNDO_SECONDS))
            intent.undone()
            raise
        except KeyboardInterrupt:
            with suppress(StorageError):  # what cannot be undone now, the next sync ends
                _undo_copy(site, ref, Call.within(_UNDO_SECONDS))
                intent.undone()
            raise


def _begin_copy(session: Session, refs: Sequence[Ref], snapshot: str, target: ChainStore) -> Ref | None:
    """Record a copy that is being made; None if none is needed."""
    there = [ref for ref in refs if (ref.snapshot, ref.store) == (snapshot, target.id)]
    if there:
        if there[0].state is RefState.HIDDEN:
            there[0].take(RefEvent.REVIVE_REQUESTED)
        return None
    snapshot_of(session, snapshot).take(SnapshotEvent.COPY_REQUESTED)
    ref = Ref(
        snapshot=snapshot,
        volume=refs[0].volume,
        store=target.id,
        role=target.role,
        path=f"snapshots/{snapshot}",
        full_reason=Reason.COPIED,
    )
    session.add(ref)
    session.flush()
    return ref


def _finish_copy(site: Site, ref: Ref, stored: Stored) -> None:
    with site.catalog.transaction() as session:
        own = records.current(session, ref)
        own.take(RefEvent.SUCCEEDED)
        own.size, own.physical_size = stored
        _rest(session, own)


def _undo_copy(site: Site, ref: Ref, call: Call) -> None:
    """Remove a copy that was not finished; repeatable."""
    with site.catalog.transaction() as session:
        records.current(session, ref).take(RefEvent.DESTROY_REQUESTED)
    site.remove(ref, call)
    with site.catalog.transaction() as session:
        own = records.current(session, ref)
        own.take(RefEvent.SUCCEEDED)
        _rest(session, own)


def _rest(session: Session, ref: Ref) -> None:
    """Bring a copied snapshot to rest, on secondary storage if it is anywhere there."""
    session.flush()
    record = snapshot_of(session, ref.snapshot)
    if record.state is SnapshotState.COPYING:
        refs = refs_of_volume(session, ref.volume)
        roles = [one.role for one in refs if one.snapshot == record.id and one.state is RefState.READY]
        events = {records.rest(role) for role in roles}
        record.take(SnapshotEvent.ON_SECONDARY if SnapshotEvent.ON_SECONDARY in events else events.pop())


def settle_copy(site: Site, snapshot: str, volume: str, store: str, call: Call) -> None:
    """Bring a copy whose maker died to an end: what is visible on the store is whole."""
    with site.catalog.transaction() as session:
        refs = refs_of_volume(session, volume)
    ref = next((one for one in refs if (one.snapshot, one.store) == (snapshot, store)), None)
    if ref is None or ref.full_reason is not Reason.COPIED:
        return
    stored = site.store(store).look(ref, call) if ref.state is RefState.CREATING else None
    if stored:
        _finish_copy(site, ref, stored)
    elif ref.state in (RefState.CREATING, RefState.DESTROYING):
        _undo_copy(site, ref, call)


def migrate(site: Site, volume: VolumeId, source: str, target: str, call: Call) -> None:
    """Move the chains of a volume that have a snapshot on `source` to another store, as they are.

    Raises:
        Busy: a snapshot of the volume is being made or moved.
        Conflict: the target has a copy of one of them; delete it there first.
        Unsupported: files cannot become snapshots in an archive, nor the reverse: copy them.
    """
    goal = site.store(target)
    with site.catalog.transaction() as session:
        refs = refs_of_volume(session, volume)
        rules.check_idle(refs)
    moving = _moving(refs, source, goal)
    for ref in refs:
        if ref.store == target and ref.snapshot in {one.snapshot for one in moving}:
            raise Conflict(f"{target} has a copy of snapshot {ref.snapshot} already")
    places = ",".join(f"{ref.id}:{ref.store}" for ref in moving)
    with site.intent(MIGRATE, volume=volume, target=target, places=places) as intent:
        with intent.deciding():
            _begin_migration(site, moving)
        try:
            for ref in moving:
                _take_over(site, refs, moving, ref, goal, call)
            _switch(site, moving, goal)
        except StorageError:
            settle_migration(site, target, places, Call.within(_UNDO_SECONDS))
            intent.undone()
            raise
        settle_migration(site, target, places, call)


def _moving(refs: Sequence[Ref], source: str, goal: ChainStore) -> list[Ref]:
    """Return all refs of the chains concerned, oldest first: a chain's files stay on one store."""
    ids = {one.id for ref in refs if ref.store == source for one in rules.with_chain(refs, ref)}
    return [ref for ref in refs if ref.id in ids and ref.role is goal.role and ref.store != goal.id]


def _begin_migration(site: Site, moving: Sequence[Ref]) -> None:
    with site.catalog.transaction() as session:
        now = [records.current(session, ref) for ref in moving]
        rules.check_idle(now)
        for ref in now:
            if ref.state is not RefState.HIDDEN:  # it needs no guard: its children have one
                ref.take(RefEvent.MIGRATE_REQUESTED)


def _take_over(
    site: Site, refs: Sequence[Ref], moving: Sequence[Ref], ref: Ref, goal: ChainStore, call: Call
) -> None:
    old = site.links(refs, ref)
    ids = {one.id for one in moving}
    goal.take_over([Link(one, goal if one.id in ids else store) for one, store in old], old, call)
    if ref.checkpoint_path:
        goal.put_checkpoint(ref, old[0].store.checkpoint(ref, call), call)


def _switch(site: Site, moving: Sequence[Ref], goal: ChainStore) -> None:
    with site.catalog.transaction() as session:
        for ref in moving:
            records.current(session, ref).store = goal.id


def settle_migration(site: Site, target: str, places: str, call: Call) -> None:
    """Remove what lies where the records do not say, and bring the refs to rest. Repeatable."""
    pairs = [place.split(":", 1) for place in places.split(",") if place]
    with site.catalog.transaction() as session:
        moved = [(session.get_one(Ref, int(number)), source) for number, source in pairs]
        refs = refs_of_volume(session, moved[0][0].volume) if moved else ()
    ids = {ref.id for ref, _ in moved}
    for ref in refs:
        if ref.parent in ids and ref.id not in ids:
            site.store(ref.store).relink(site.links(refs, ref), call)
    for ref, source in reversed(moved):
        site.remove(ref, call, store=source if ref.store == target else target)
        with site.catalog.transaction() as session:
            own = records.current(session, ref)
            if own.state is RefState.MIGRATING:
                own.take(RefEvent.SUCCEEDED)
