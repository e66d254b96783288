"""Taking a snapshot of a running or stopped VM's disk: from the hypervisor straight to its place.

    journal ── begin ── begin_backup(checkpoint, since) ══ NBD: bytes, bitmap ══> store, verified, named
                                                                                     │
    done <── parent's checkpoint away <── end_backup(keep) <── commit <── checkpoint's text beside it

    killed before commit   sync: named at the store? then it goes on from there; else all of it goes
    killed after commit    sync: the rest of the line

The parent's checkpoint lives until the child is committed, so a snapshot that fails costs no full.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ....transfer_objects.ids import ID_RULE, SnapshotId, VolumeId, is_valid_id
from ...catalog.snapshots import Reason, Ref, RefState, refs_of_volume
from ...dataplane import dirty_extents, open_source
from ...settings import DELTA_MAX, INCREMENTAL_SNAPSHOT, Where
from ...spi.call import Call
from ...spi.errors import InvalidArgument, NotFound, Outcome, StorageError
from ...spi.hypervisor_mixins import BackupDisk, Checkpoint
from ...spi.model import Extent
from . import records, rules
from .deletion import sweep
from .site import Disk, Site, VolumePlace
from .stores import Link, Stored

TAKE = "kvm.take"
_UNDO_SECONDS = 120.0  # they may come on top of the call's deadline: what is half made must not stay


@dataclass(frozen=True, slots=True)
class _Changes:
    """What has changed since the parent, by the bitmap; a connection of its own each time."""

    backup: BackupDisk
    since: int
    size: int

    def __iter__(self) -> Iterator[Extent]:
        with dirty_extents(self.backup.location, self.backup.bitmap) as dirty:
            for extent in dirty:
                if extent.offset < self.since:
                    yield Extent(extent.offset, min(extent.end, self.since) - extent.offset)
        if self.size > self.since:  # the bitmap of a disk that was grown need not speak of what is new
            yield Extent(self.since, self.size - self.since)


def take(site: Site, place: VolumePlace, snapshot: SnapshotId, call: Call) -> Ref:
    """Take a snapshot; a full or a delta, as the rules say, with the reason for a full recorded.

    A repeat with the same id returns what is there and never makes a later cut.

    Raises:
        Unsupported: not a pool of files, or the hypervisor is too old: no full is made instead, since a
            cluster that can never do otherwise should say so in kvm.incremental.snapshot.
        Busy: another snapshot of this volume is being made, or another job runs on the VM.
        StorageError: what hypervisor or store raised; nothing is left but a snapshot in Error.
    """
    rules.check_pool(place.pool_type)
    if not is_valid_id(snapshot):
        raise InvalidArgument(f"snapshot id {snapshot!r} is not valid: {ID_RULE}")
    disk = site.attached(place.volume)
    if (done := records.existing(site, place, snapshot)) is not None:
        return done
    with site.intent(TAKE, snapshot=snapshot, volume=place.volume) as intent:
        with intent.deciding():
            links = records.begin(site, place, snapshot, _whole_checkpoints(site, place, disk, call))
        try:
            ref = _make(site, links, disk, site.settings.get(DELTA_MAX, place.where), call)
        except StorageError as error:
            undo(site, links[0].ref, str(error), Call.within(_UNDO_SECONDS))
            intent.undone()
            raise
        try:
            tidy(site, ref, call)
        except StorageError as error:  # were he told that it failed, he would take another one
            intent.put_off_because(error)
    return ref


def _make(site: Site, links: list[Link], disk: Disk, delta_max: int, call: Call) -> Ref:
    links, stored = _stored(site, links, disk, call)
    keep_text(site, links[0], disk, call)
    return records.commit(site, links[0].ref, stored, delta_max)


def _whole_checkpoints(site: Site, place: VolumePlace, disk: Disk, call: Call) -> set[str]:
    """Return the parent's checkpoint if its bitmap is whole; it is registered again where it is not."""
    with site.catalog.transaction() as session:
        refs = refs_of_volume(session, place.volume)
    parent = rules.candidate(refs)
    if parent is None or parent.end_of_chain or not site.settings.get(INCREMENTAL_SNAPSHOT, place.where):
        return set()
    return set() if _lost(site, parent, disk, call) else {parent.checkpoint}


def _lost(site: Site, ref: Ref, disk: Disk, call: Call) -> bool:
    """Let the hypervisor know the checkpoint of a snapshot again; tell whether its bitmap is gone."""
    known = {one.name for one in site.backups.checkpoints(disk.vm, call) if one.device == disk.device}
    if ref.checkpoint in known:
        return False
    try:
        text = site.store(ref.store).checkpoint(ref, call)
    except NotFound:
        return True
    saved = Checkpoint(name=ref.checkpoint, device=disk.device, text=text)
    return bool(site.backups.restore_checkpoints(disk.vm, [saved], call))


def recreate_checkpoints(site: Site, volume: VolumeId, call: Call) -> bool:
    """After a start, attach or migration of its VM: let the hypervisor know a volume's checkpoint again.

    Returns False if the chain ended, because the bitmap is gone: the next snapshot is a full.
    """
    disk = site.attached(volume)
    with site.catalog.transaction() as session:
        parent = rules.candidate(refs_of_volume(session, volume))
    if parent is None or parent.end_of_chain:
        return True
    if not _lost(site, parent, disk, call):
        return True
    with site.catalog.transaction() as session:
        records.current(session, parent).end_chain(Reason.LOST_CHECKPOINT)
    return False


def _stored(site: Site, links: list[Link], disk: Disk, call: Call) -> tuple[list[Link], Stored]:
    """Cut and store; a delta that turns out to be impossible becomes a full, with the reason recorded."""
    if len(links) > 1:
        try:
            backup = _begin_backup(site, links, disk, call)
        except NotFound:
            links = records.replan(site, links, Reason.LOST_CHECKPOINT)
    if len(links) == 1:
        backup = _begin_backup(site, links, disk, call)
    with open_source(backup.location) as source:
        since = links[1].ref.size if len(links) > 1 else 0
        if source.size >= since:
            changed = _Changes(backup, since, source.size) if len(links) > 1 else None
            return links, links[0].store.write(links, source, changed, call)
    site.backups.end_backup(disk.vm, disk.device, call, keep=False)
    return _stored(site, records.replan(site, links, Reason.SHRUNK), disk, call)


def _begin_backup(site: Site, links: Sequence[Link], disk: Disk, call: Call) -> BackupDisk:
    ref, since = links[0].ref, links[1].ref.checkpoint if len(links) > 1 else None
    try:
        return site.backups.begin_backup(disk.vm, disk.device, call, checkpoint=ref.snapshot, since=since)
    except StorageError as error:
        if error.outcome is Outcome.NOT_APPLIED and not isinstance(error, NotFound):
            records.backup_ended(site, ref)  # the job that runs, if any, is somebody else's
        raise


def keep_text(site: Site, link: Link, disk: Disk | None, call: Call) -> None:
    """Put the text of the new checkpoint beside the snapshot, if the hypervisor still has it."""
    ref = link.ref
    if not ref.checkpoint:
        return
    found = site.backups.checkpoints(disk.vm, call) if disk else ()
    text = next((one.text for one in found if one.name == ref.checkpoint), None)
    if text is not None:
        ref.checkpoint_path = link.store.put_checkpoint(ref, text, call)


def tidy(site: Site, ref: Ref, call: Call) -> None:
    """After the commit: end the backup, and stop tracking since older snapshots. Repeatable."""
    volume = VolumeId(ref.volume)
    disk = site.disk_of(volume)
    if disk and ref.backing_up:
        site.backups.end_backup(disk.vm, disk.device, call, keep=bool(ref.checkpoint))
    records.backup_ended(site, ref)
    site.untrack(volume, call, before=ref.id if ref.checkpoint else ref.id + 1)


def undo(site: Site, ref: Ref, why: str, call: Call) -> None:
    """Remove all that was begun; the snapshot ends in Error. Repeatable."""
    records.drop(site, ref)
    disk = site.disk_of(VolumeId(ref.volume))
    if disk:
        with suppress(NotFound):  # the VM is gone, and the bitmap with it
            if ref.backing_up:
                site.backups.end_backup(disk.vm, disk.device, call, keep=False)
            site.backups.delete_checkpoint(disk.vm, disk.device, ref.snapshot, call)
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
    keep_text(site, links[0], site.disk_of(VolumeId(ref.volume)), call)
    tidy(site, records.commit(site, ref, stored, site.settings.get(DELTA_MAX, Where())), call)
