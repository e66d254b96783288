"""The transactions of a snapshot's life: each one moves records from one state that a crash may find to
the next.

    begin    nothing   -> Creating        with the decision: full or delta, since which, and why
    replan   Creating  -> Creating        a full after all
    commit   Creating  -> Ready           the bytes are whole and durable
    drop     Creating  -> Destroying      the bytes are to go; at the end the snapshot is in Error
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy.orm import Session

from ....transfer_objects.enums import DataStoreRole
from ....transfer_objects.ids import SnapshotId
from ...catalog.snapshots import (
    Reason,
    Ref,
    RefEvent,
    RefState,
    SnapshotEvent,
    SnapshotRecord,
    SnapshotState,
    refs_of_volume,
    snapshot_of,
)
from ...settings import BACKUP_TO_SECONDARY, DELTA_MAX, INCREMENTAL_SNAPSHOT
from ...spi.errors import Busy, Conflict, NotFound
from . import rules
from .site import Site, VolumePlace
from .stores import Link, Stored


def begin(site: Site, place: VolumePlace, snapshot: SnapshotId, whole: Collection[str]) -> list[Link]:
    """Decide, and record a snapshot that is being made; return it with what it is based on.

    Raises:
        Busy: another one of this volume is being made or moved.
        Conflict: the id exists.
    """
    secondary = site.settings.get(BACKUP_TO_SECONDARY, place.where)
    store = site.store(place.secondary if secondary else place.primary)
    with site.catalog.transaction() as session:
        refs = refs_of_volume(session, place.volume)
        rules.check_idle(refs)
        plan = rules.plan(
            refs,
            enabled=site.settings.get(INCREMENTAL_SNAPSHOT, place.where),
            delta_max=site.settings.get(DELTA_MAX, place.where),
            role=store.role,
            reachable={name for name, other in site.stores.items() if store.reaches(other)},
            whole=whole,
        )
        _record(session, site, place, snapshot)
        ref = Ref(
            snapshot=snapshot,
            volume=place.volume,
            store=store.id,
            role=store.role,
            path=f"snapshots/{snapshot}",
            parent=plan.parent.id if plan.parent else None,
            checkpoint=snapshot if plan.checkpoint else "",
            tracking=True,
            backing_up=True,
            full_reason=plan.full_reason,
        )
        session.add(ref)
        session.flush()
        return site.links([*refs, ref], ref)


def _record(session: Session, site: Site, place: VolumePlace, snapshot: SnapshotId) -> None:
    record = session.get(SnapshotRecord, snapshot)
    if record is None:
        created = site.now().isoformat(timespec="milliseconds")
        session.add(SnapshotRecord(id=snapshot, volume=place.volume, created=created))
        session.flush()
    elif record.volume != place.volume:
        raise Conflict(f"snapshot {snapshot} is one of another volume")
    else:
        record.take(SnapshotEvent.CREATE_REQUESTED)
        record.error = ""


def replan(site: Site, links: list[Link], reason: Reason) -> list[Link]:
    """Make a full of it, for a reason that only the hypervisor could tell.

    What it tells is true whatever becomes of the full, so the parent's chain has ended with that.
    """
    with site.catalog.transaction() as session:
        refs = refs_of_volume(session, links[0].ref.volume)
        ref, parent = (next(one for one in refs if one.id == link.ref.id) for link in links[:2])
        parent.end_chain(reason)
        ref.parent, ref.full_reason = None, reason
    return [Link(ref, links[0].store)]


def commit(site: Site, ref: Ref, stored: Stored, delta_max: int, frozen_seconds: float = 0.0) -> Ref:
    """The snapshot is whole where it belongs; a full ends the chain before it now, and not sooner.

    Args:
        ref: with the path of the checkpoint's text; "" if the hypervisor does not have it any more.
        delta_max: length from which on a chain has ended.
    """
    with site.catalog.transaction() as session:
        refs = refs_of_volume(session, ref.volume)
        own = next((one for one in refs if one.id == ref.id), None)
        if own is None:
            raise Conflict(f"snapshot {ref.snapshot} was removed while it was made")
        before = rules.candidate(refs)
        if before and own.full_reason:
            before.end_chain(own.full_reason)
        own.take(RefEvent.SUCCEEDED)
        own.checkpoint_path = ref.checkpoint_path
        own.size, own.physical_size = stored
        if own.checkpoint and not own.checkpoint_path:
            own.end_chain(Reason.LOST_CHECKPOINT)
        elif len(rules.chain(refs, own)) >= delta_max:
            own.end_chain(Reason.LENGTH)
        record = snapshot_of(session, ref.snapshot)
        record.take(rest(own.role))
        record.size, record.frozen_seconds = own.size, frozen_seconds
    return own


def rest(role: DataStoreRole) -> SnapshotEvent:
    """Return the event that brings a snapshot to rest on a store of this role."""
    return SnapshotEvent.ON_PRIMARY if role is DataStoreRole.PRIMARY else SnapshotEvent.ON_SECONDARY


def drop(site: Site, ref: Ref) -> None:
    """Record that what was begun is to go; repeatable.

    Raises:
        Conflict: it was committed, though that failed as far as its maker could see.
    """
    with site.catalog.transaction() as session:
        own = current(session, ref)
        if own.state is RefState.READY:
            raise Conflict(f"snapshot {ref.snapshot} was made all the same")
        own.take(RefEvent.DESTROY_REQUESTED)


def backup_ended(site: Site, ref: Ref) -> None:
    """Record that the hypervisor does not serve the backup of this snapshot; repeatable."""
    with site.catalog.transaction() as session:
        current(session, ref).backing_up = False
    ref.backing_up = False


def dropped(site: Site, ref: Ref, error: str) -> None:
    """Record that nothing is left of it, and why; repeatable."""
    with site.catalog.transaction() as session:
        own = current(session, ref)
        own.tracking = own.backing_up = False
        if own.state is RefState.DESTROYING:
            own.take(RefEvent.SUCCEEDED)
        record = snapshot_of(session, ref.snapshot)
        if record.state is SnapshotState.CREATING:
            record.take(SnapshotEvent.FAILED)
            record.error = error
        release_orphans(session, ref.volume)


def release_orphans(session: Session, volume: str) -> Sequence[Ref]:
    """Mark what was kept for others only, and the others are gone; return what there is of the volume."""
    session.flush()
    refs = refs_of_volume(session, volume)
    for ref in rules.orphaned(refs):
        rules.pass_mark(refs, ref)
        ref.take(RefEvent.DESTROY_REQUESTED)
        owner = snapshot_of(session, ref.snapshot)
        if owner.state is SnapshotState.HIDDEN:
            owner.take(SnapshotEvent.DESTROY_REQUESTED)
    return refs


def current(session: Session, ref: Ref) -> Ref:
    """Return a ref as it is now."""
    found = session.get(Ref, ref.id)
    if found is None:
        raise NotFound(f"snapshot {ref.snapshot} has no ref {ref.id}")
    return found


def existing(site: Site, place: VolumePlace, snapshot: SnapshotId) -> Ref | None:
    """Return the snapshot if a run before has made it.

    Raises:
        Busy: it is being made.
        Conflict: the id is another volume's, or of a snapshot that was deleted.
    """
    with site.catalog.transaction() as session:
        record = session.get(SnapshotRecord, snapshot)
        if record is None or record.state is SnapshotState.ERROR:
            return None
        if record.volume != place.volume:
            raise Conflict(f"snapshot {snapshot} is one of another volume")
        if record.state is SnapshotState.CREATING:
            raise Busy(f"snapshot {snapshot} is being made; if its maker died, sync settles it")
        try:
            return site.readable(session, snapshot)[1]
        except NotFound as error:
            raise Conflict(f"snapshot {snapshot} was deleted: its id is not used again") from error
