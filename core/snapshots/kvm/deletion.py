"""Deleting: a snapshot that others are based on is gone for its user and stays on its store.

    1 <── 2 <── 3      delete 1   Hidden <── 2 <── 3        its file stays
                       delete 3   Hidden <── 2              2 is the end of the chain now
                       delete 2   .                         and 1 goes with its last child

One transaction decides; then files go one by one, children before parents, each followed by a
transaction that finds what nobody needs any more. A kill between any two leaves a Destroying ref.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from ....transfer_objects.ids import SnapshotId, VolumeId
from ...catalog.snapshots import (
    Ref,
    RefEvent,
    RefState,
    SnapshotEvent,
    SnapshotRecord,
    SnapshotState,
    refs_of_volume,
    snapshot_of,
)
from ...spi.call import Call
from ...spi.errors import Busy
from . import records, rules
from .site import Site

DELETE = "kvm.delete"
_GONE = (SnapshotState.HIDDEN, SnapshotState.DESTROYED)
_BUSY = (SnapshotState.CREATING, SnapshotState.COPYING)


def delete(site: Site, snapshot: SnapshotId, call: Call, *, store: str | None = None) -> None:
    """Delete a snapshot, from all stores or from one; what is gone already is fine.

    Raises:
        NotFound: there never was such a snapshot.
        Busy: it is being made, copied or moved.
    """
    with site.catalog.transaction() as session:
        volume = snapshot_of(session, snapshot).volume
    with site.intent(DELETE, snapshot=snapshot, volume=volume) as intent:
        with intent.deciding(), site.catalog.transaction() as session:
            _decide(session, snapshot_of(session, snapshot), store)
        sweep(site, volume, call)


def free(site: Site, volume: VolumeId, call: Call) -> None:
    """Free the space of what was deleted or cut short; once a day is enough.

    An archive on a store whose listing lags (Swift) frees nothing with the deletion itself, and waits for a
    minute here; what a killed run left in an archive is freed when its lease is over.
    """
    with site.catalog.transaction() as session:
        refs = refs_of_volume(session, volume)
    for name, store in site.stores.items():
        store.free(volume, call, known={ref.snapshot for ref in refs if ref.store == name})


def _decide(session: Session, record: SnapshotRecord, store: str | None) -> None:
    refs = refs_of_volume(session, record.volume)
    if record.state in _BUSY:
        raise Busy(f"snapshot {record.id} is {record.state}")
    for ref in refs:
        if ref.snapshot == record.id and store in (None, ref.store):
            if ref.state is RefState.MIGRATING or ref.backing_up:
                raise Busy(f"snapshot {record.id} is not finished on {ref.store}")
            if ref.state is RefState.READY:
                _hide_or_destroy(refs, ref)
    if record.state not in _GONE:
        record.take(SnapshotEvent.DESTROY_REQUESTED)
        _settle(refs, record)


def _hide_or_destroy(refs: Sequence[Ref], ref: Ref) -> None:
    if rules.children(refs, ref):
        ref.take(RefEvent.HIDE_REQUESTED)
    else:
        rules.pass_mark(refs, ref)
        ref.take(RefEvent.DESTROY_REQUESTED)


def _settle(refs: Sequence[Ref], record: SnapshotRecord) -> None:
    """Give a snapshot that is being deleted the state that its refs leave it in."""
    own = [ref for ref in refs if ref.snapshot == record.id and ref.state is not RefState.DESTROYED]
    ready = [ref for ref in own if ref.state is RefState.READY]
    if ready:
        record.take(records.rest(ready[0].role))
    elif not own:
        record.take(SnapshotEvent.DESTROYED)
    elif all(ref.state is RefState.HIDDEN for ref in own):
        record.take(SnapshotEvent.HIDE_REQUESTED)


def sweep(site: Site, volume: str, call: Call) -> None:
    """Remove what is marked, children before parents, and whatever is needed by nobody then. Repeatable."""
    while (ref := _next(site, volume)) is not None:
        site.remove(ref, call)
        tracker = site.tracker(VolumeId(volume))
        if tracker and ref.tracking:
            tracker.delete(ref.snapshot, call)
        with site.catalog.transaction() as session:
            _removed(session, records.current(session, ref))


def _next(site: Site, volume: str) -> Ref | None:
    """Return the newest ref that is to go and is not its own maker's to remove."""
    with site.catalog.transaction() as session:
        marked = [
            ref
            for ref in refs_of_volume(session, volume)
            if ref.state is RefState.DESTROYING
            and snapshot_of(session, ref.snapshot).state is not SnapshotState.CREATING
        ]
    return marked[-1] if marked else None


def _removed(session: Session, ref: Ref) -> None:
    if ref.state is RefState.DESTROYED:  # by another sweep
        return
    ref.tracking = False
    ref.take(RefEvent.SUCCEEDED)
    refs = records.release_orphans(session, ref.volume)
    owner = snapshot_of(session, ref.snapshot)
    if owner.state is SnapshotState.DESTROYING:
        _settle(refs, owner)
