"""Taking a snapshot of a volume, of a running VM, a stopped one, or none: straight to its place.

    journal ── begin ── cut (checkpoint, since, quiesced?) ══ NBD: bytes, bitmap ══> store, verified, named
                                                                                     │
    done <── parent's checkpoint away <── end of the cut <──── commit <── checkpoint's text beside it

    killed before commit   sync: named at the store? then it goes on from there; else all of it goes
    killed after commit    sync: the rest of the line

The parent's checkpoint lives until the child is committed, so a snapshot that fails costs no full.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ....transfer_objects.ids import SnapshotId, VolumeId
from ...catalog.snapshots import Reason, Ref, RefState, refs_of_volume
from ...settings import DELTA_MAX, INCREMENTAL_SNAPSHOT, Where
from ...spi.call import Call
from ...spi.errors import NotFound, Outcome, StorageError
from ...spi.ids import checked_id
from ...spi.model import Extent
from . import records, rules
from .deletion import sweep
from .site import Site, VolumePlace
from .stores import Link, Stored
from .tracking import Cut, Tracker

TAKE = "kvm.take"
_UNDO_SECONDS = 120.0  # they may come on top of the call's deadline: what is half made must not stay


@dataclass(frozen=True, slots=True)
class _Changes:
    """What has changed since the parent, by the bitmap; a connection of its own each time."""

    cut: Cut
    since: int
    size: int

    def __iter__(self) -> Iterator[Extent]:
        with self.cut.dirty() as dirty:
            for extent in dirty:
                if extent.offset < self.since:
                    yield Extent(extent.offset, min(extent.end, self.since) - extent.offset)
        if self.size > self.since:  # the bitmap of a disk that was grown need not speak of what is new
            yield Extent(self.since, self.size - self.since)


def take(site: Site, place: VolumePlace, snapshot: SnapshotId, call: Call, *, quiesce: bool = False) -> Ref:
    """Take a snapshot; a full or a delta, as the rules say, with the reason for a full recorded.

    A repeat with the same id returns what is there and never makes a later cut.

    Args:
        quiesce: freeze a running guest for the cut; how long, `SnapshotRecord.frozen_seconds` tells. A VM
            that is off has nothing to freeze.

    Raises:
        Unsupported: not a pool of files, or the hypervisor is too old: no full is made instead, since a
            cluster that can never do otherwise should say so in kvm.incremental.snapshot.
        Busy: another snapshot of this volume is being made, or another job runs on the VM.
        Unavailable: it cannot be quiesced: the guest's agent does not answer.
        StorageError: what hypervisor or store raised; nothing is left but a snapshot in Error.
    """
    rules.check_pool(place.pool_type)
    checked_id("snapshot", snapshot)
    tracker = site.tracked(place.volume)
    if (done := records.existing(site, place, snapshot)) is not None:
        return done
    with site.intent(TAKE, snapshot=snapshot, volume=place.volume) as intent:
        with intent.deciding():
            links = records.begin(site, place, snapshot, _whole_checkpoints(site, place, tracker, call))
        try:
            making = _Making(site, tracker, call, quiesce)
            ref = making.made(links, site.settings.get(DELTA_MAX, place.where))
        except StorageError as error:
            undo(site, links[0].ref, str(error), Call.within(_UNDO_SECONDS))
            intent.undone()
            raise
        except KeyboardInterrupt:
            with suppress(StorageError):  # what cannot be undone now, the next sync ends
                undo(site, links[0].ref, "it was interrupted", Call.within(_UNDO_SECONDS))
                intent.undone()
            raise
        try:
            tidy(site, ref, call)
        except StorageError as error:  # were he told that it failed, he would take another one
            intent.put_off_because(error)
    return ref


def _whole_checkpoints(site: Site, place: VolumePlace, tracker: Tracker, call: Call) -> set[str]:
    """Return the parent's checkpoint if its bitmap is whole; it is registered again where it is not."""
    with site.catalog.transaction() as session:
        refs = refs_of_volume(session, place.volume)
    parent = rules.candidate(refs)
    if parent is None or parent.end_of_chain or not site.settings.get(INCREMENTAL_SNAPSHOT, place.where):
        return set()
    return set() if _lost(site, parent, tracker, call) else {parent.checkpoint}


def _lost(site: Site, ref: Ref, tracker: Tracker, call: Call) -> bool:
    """Let the checkpoint of a snapshot be known again; tell whether its bitmap is gone."""
    if ref.checkpoint in {one.name for one in tracker.checkpoints(call)}:
        return False
    try:
        text = site.store(ref.store).checkpoint(ref, call)
    except NotFound:
        return True
    return not tracker.restore(ref.checkpoint, text, call)


def recreate_checkpoints(site: Site, volume: VolumeId, call: Call) -> bool:
    """After a start, attach or migration of its VM: let the hypervisor know a volume's checkpoint again.

    Returns False if the chain ended, because the bitmap is gone: the next snapshot is a full.
    """
    tracker = site.tracked(volume)
    with site.catalog.transaction() as session:
        parent = rules.candidate(refs_of_volume(session, volume))
    if parent is None or parent.end_of_chain:
        return True
    if not _lost(site, parent, tracker, call):
        return True
    with site.catalog.transaction() as session:
        records.current(session, parent).end_chain(Reason.LOST_CHECKPOINT)
    return False


@dataclass(frozen=True, slots=True)
class _Making:
    """One snapshot on its way."""

    site: Site
    tracker: Tracker
    call: Call
    quiesce: bool

    def made(self, links: list[Link], delta_max: int) -> Ref:
        """Cut, store, commit; a delta that turns out to be impossible becomes a full, the reason recorded."""
        links, cut = self._cut(links)
        stored = self._stored(links, cut)
        if stored is None:
            self.tracker.end(links[0].ref.snapshot, self.call, keep=False)
            return self.made(records.replan(self.site, links, Reason.SHRUNK), delta_max)
        keep_text(links[0], self.tracker, self.call)
        return records.commit(self.site, links[0].ref, stored, delta_max, cut.frozen_seconds)

    def _stored(self, links: list[Link], cut: Cut) -> Stored | None:
        """Store it; None if the volume is smaller than the parent, on which no delta can be based."""
        since = links[1].ref.size if len(links) > 1 else 0
        with cut.open() as source:
            if source.size < since:
                return None
            changed = _Changes(cut, since, source.size) if len(links) > 1 else None
            return links[0].store.write(links, source, changed, self.call)

    def _cut(self, links: list[Link]) -> tuple[list[Link], Cut]:
        if len(links) > 1:
            try:
                return links, self._begun(links)
            except NotFound:
                links = records.replan(self.site, links, Reason.LOST_CHECKPOINT)
        return links, self._begun(links)

    def _begun(self, links: Sequence[Link]) -> Cut:
        ref, since = links[0].ref, links[1].ref.checkpoint if len(links) > 1 else None
        try:
            return self.tracker.begin(ref.snapshot, since, self.call, quiesce=self.quiesce)
        except StorageError as error:
            if error.outcome is Outcome.NOT_APPLIED and not isinstance(error, NotFound):
                records.backup_ended(self.site, ref)  # the job that runs, if any, is somebody else's
            raise


def keep_text(link: Link, tracker: Tracker | None, call: Call) -> None:
    """Put the text of the new checkpoint beside the snapshot, if the hypervisor still has it."""
    ref = link.ref
    if not ref.checkpoint:
        return
    found = tracker.checkpoints(call) if tracker else ()
    text = next((one.text for one in found if one.name == ref.checkpoint), None)
    if text is not None:
        ref.checkpoint_path = link.store.put_checkpoint(ref, text, call)


def tidy(site: Site, ref: Ref, call: Call) -> None:
    """After the commit: end the backup, and stop tracking since older snapshots. Repeatable."""
    volume = VolumeId(ref.volume)
    tracker = site.tracker(volume)
    if tracker and ref.backing_up:
        tracker.end(ref.snapshot, call, keep=bool(ref.checkpoint))
    records.backup_ended(site, ref)
    site.untrack(volume, call, before=ref.id if ref.checkpoint else ref.id + 1)


def undo(site: Site, ref: Ref, why: str, call: Call) -> None:
    """Remove all that was begun; the snapshot ends in Error. Repeatable."""
    records.drop(site, ref)
    tracker = site.tracker(VolumeId(ref.volume))
    if tracker:
        with suppress(NotFound):  # the VM is gone, and the bitmap with it
            if ref.backing_up:
                tracker.end(ref.snapshot, call, keep=False)
            tracker.delete(ref.snapshot, call)
    site.remove(ref, call)
    records.dropped(site, ref, why)
    sweep(site, ref.volume, call)  # its parent may have been deleted meanwhile, and have waited for it


def settle(site: Site, snapshot: str, volume: str, call: Call) -> None:
    """Bring a snapshot whose maker died to a resting state, by what hypervisor and store say."""
    with site.catalog.transaction() as session:
        refs = refs_of_volume(session, volume)
        made = (one for one in refs if one.full_reason is not Reason.COPIED)
        ref = next((one for one in made if one.snapshot == snapshot), None)
    if ref is None:
        return
    if ref.state is RefState.READY:
        tidy(site, ref, call)
    elif ref.state is RefState.DESTROYING:
        undo(site, ref, "its maker died", call)
    elif ref.state is RefState.CREATING:
        _go_on(site, refs, ref, call)


def _go_on(site: Site, refs: Sequence[Ref], ref: Ref, call: Call) -> None:
    links = site.links(refs, ref)
    stored = links[0].store.look(ref, call)
    if stored is None:
        undo(site, ref, "its maker died before it was whole", call)
        return
    keep_text(links[0], site.tracker(VolumeId(ref.volume)), call)
    tidy(site, records.commit(site, ref, stored, site.settings.get(DELTA_MAX, Where())), call)
