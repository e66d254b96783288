"""Bringing a snapshot from its pool to secondary storage: one attempt.

    BackingUp ══ copy ══> stored ── wanted on secondary alone? ── read back ── primary removed ──> BackedUp
        │ failed, or cancelled
        └─> copy removed ──> CreatedOnPrimary: usable, says why; tried again later, or not any more

Which attempt it is, and when the next one is due, stands in the catalog, so that any process goes on.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from ...transfer_objects.enums import DataStoreRole
from ...transfer_objects.ids import SnapshotId, VolumeId
from ..archive import Manifest
from ..catalog.snapshots import Ref, RefState, SnapshotState
from ..settings import BACKUP_RETRY, BACKUP_RETRY_INTERVAL, Where
from ..snapshots import VolumeSnapshots
from ..spi import Call, Conflict, DataLoss, InvalidArgument, StorageError, Unsupported
from ..steps import step
from .decision import Goal
from .hooks import Act
from .snapshots_context import Context
from .snapshots_create import UNDO_SECONDS, key_of, remove_cut, reservation
from .snapshots_images import manifest_of, remove_image
from .snapshots_records import Found, Records

_log = logging.getLogger("bollard.service")
_HOPELESS = (Conflict, InvalidArgument, Unsupported)
_LOOK_SECONDS = 2.0  # how often another process's wish to cancel is looked for


@dataclass(frozen=True, slots=True)
class Backup:
    """One attempt; whoever runs it has the claim of the snapshot."""

    ctx: Context
    records: Records
    snapshot: SnapshotId

    def run(self, call: Call) -> Found:
        """Copy it, and remove the primary copy if that is the goal. May be repeated.

        Raises:
            LimitExceeded: the quota of secondary storage; nothing was begun.
            Conflict: the archive has something else under this id; it stays.
            StorageError: the snapshot rests on its pool, and nothing of the copy is left; or, after an
                outcome that is unknown, a sync finds out what is.
        """
        found = self.records.get(self.snapshot)
        if found.state is SnapshotState.BACKED_UP and found.ref(DataStoreRole.PRIMARY) is None:
            return found
        order = found.order
        self.ctx.hooks.quota.reserve(reservation(order, DataStoreRole.IMAGE, found.record.size))
        self._check_ours(found, call)
        found = self.records.begin_backup(self.snapshot)
        try:
            self._copied(found, self._watched(call))
        except StorageError as error:
            self._failed(error, call)
            raise
        done = self._rest(call)
        self.ctx.hooks.tell(order.account, Act.ARCHIVE, self.snapshot)
        return done

    def go_on(self, call: Call) -> Found:
        """Finish what a dead process had begun, if its copy is whole; else take it back, to try again."""
        found = self.records.get(self.snapshot)
        order = found.order
        engine = self._engine(found)
        manifest = manifest_of(engine.archive, order.volume, order.snapshot, call)
        if manifest is not None and manifest.created == order.cut and not order.cancelled:
            try:
                self._whole(manifest, engine, call)
            except DataLoss as error:
                return self.give_up(error, cancelled=False)
            return self._rest(call)
        again = order.wanted and not order.cancelled
        return self._take_back("interrupted", retry_at=self.ctx.clock() if again else None, failed=False)

    def _copied(self, found: Found, call: Call) -> Found:
        order, engine = found.order, self._engine(found)
        volume = VolumeId(order.volume)
        manifest = engine.archive_snapshot(volume, self.snapshot, call, parent=self._parent(found))
        return self._whole(manifest, engine, call)

    def _whole(self, manifest: Manifest, engine: VolumeSnapshots, call: Call) -> Found:
        """Read the copy back if it will be the only one, and say that it is there."""
        found = self.records.get(self.snapshot)
        if manifest.created != found.order.cut:
            raise Conflict(f"the archive has another cut of {found.order.volume}/{self.snapshot}")
        if found.order.goal is not Goal.BOTH:
            check_whole(engine, found, call)
        return self.records.stored(self.snapshot, manifest)

    def _rest(self, call: Call) -> Found:
        """Rest on secondary storage; what has to leave the pool then leaves it now, or with the next sync."""
        found = self.records.backed_up(self.snapshot)
        ref = found.ref(DataStoreRole.PRIMARY, RefState.DESTROYING)
        if ref is not None:
            try:
                remove_primary(self.ctx, self.records, found, ref, call)
            except StorageError as error:  # the snapshot is safe: that is what was asked for
                _log.warning("snapshot %s stays on its pool until a sync: %s", self.snapshot, error)
        return self.records.get(self.snapshot)

    def give_up(self, error: StorageError, *, cancelled: bool) -> Found:
        """Rest on the pool: for good if it was cancelled or was tried often enough, else until it is due."""
        order = self.records.get(self.snapshot).order
        tries = self.ctx.settings.get(BACKUP_RETRY, Where())
        again = order.attempts < tries and not cancelled and not isinstance(error, _HOPELESS)
        interval = self.ctx.settings.get(BACKUP_RETRY_INTERVAL, Where())
        why = "cancelled" if cancelled else error.message
        found = self._take_back(why, retry_at=self.ctx.clock() + interval if again else None)
        self.ctx.hooks.tell(order.account, Act.ARCHIVE, self.snapshot, why)
        return found

    def _take_back(self, why: str, *, retry_at: float | None, failed: bool = True) -> Found:
        """Say first that the copy is to go, so that nobody relies on it; then remove it."""
        order = self.records.get(self.snapshot).order
        if retry_at is None:  # before the state: a crash in between releases it once more
            self.ctx.hooks.quota.release(key_of(order.snapshot, DataStoreRole.IMAGE))
        found = self.records.given_up(self.snapshot, why, retry_at=retry_at, failed=failed)
        ref = found.ref(DataStoreRole.IMAGE)
        if ref is not None:
            remove_copy(self.ctx, self.records, found, ref, Call.within(UNDO_SECONDS))
        return self.records.get(self.snapshot)

    def _parent(self, found: Found) -> SnapshotId | None:
        ref = found.ref(DataStoreRole.IMAGE)
        if ref is None or ref.parent is None:
            return None
        with self.ctx.catalog.transaction() as session:
            parent = session.get(Ref, ref.parent)
            return SnapshotId(parent.snapshot) if parent is not None else None

    def _check_ours(self, found: Found, call: Call) -> None:
        """Refuse an id that somebody else has in the archive: his would be deleted for ours."""
        if found.ref(DataStoreRole.IMAGE) is not None:
            return
        order = found.order
        there = manifest_of(self._engine(found).archive, order.volume, order.snapshot, call)
        if there is not None and there.created != order.cut:
            raise Conflict(f"the archive has another image {order.volume}/{order.snapshot} already")

    def _engine(self, found: Found) -> VolumeSnapshots:
        order = found.order
        return self.ctx.engine(order.pool, order.store, order.snapshot)

    def _failed(self, error: StorageError, call: Call) -> None:
        cancelled = self.records.get(self.snapshot).order.cancelled
        if call.cancelled() and not cancelled:  # whoever ran it has to stop; that is no failure of the copy
            self._take_back("interrupted", retry_at=self.ctx.clock(), failed=False)
        else:
            self.give_up(error, cancelled=cancelled)

    def _watched(self, call: Call) -> Call:
        """Return the call, cancelled too when another process has said so in the catalog."""
        cancel = call.cancel
        last = call.clock()

        def progress(done: int, total: int) -> None:
            nonlocal last
            call.progress(done, total)
            if call.clock() - last >= _LOOK_SECONDS:
                last = call.clock()
                if self.records.get(self.snapshot).order.cancelled:
                    cancel.set()

        return replace(call, progress=progress)


def check_whole(engine: VolumeSnapshots, found: Found, call: Call) -> None:
    """Read an archived copy back.

    Raises:
        DataLoss: it is damaged.
    """
    volume, snapshot = found.order.volume, found.order.snapshot
    report = engine.archive.verify(step(call), volume=volume, snapshot=snapshot, level=engine.verify)
    if report.problems:
        raise DataLoss(f"the archived copy of {snapshot} is damaged: {report.problems[0]}")


def remove_primary(ctx: Context, records: Records, found: Found, ref: Ref, call: Call) -> None:
    """Take what is to go from the pool. Repeatable."""
    pool = ctx.site.pool(ref.store)
    remove_cut(pool, SnapshotId(ref.snapshot), VolumeId(ref.volume), call)
    ctx.hooks.quota.release(key_of(found.order.snapshot, DataStoreRole.PRIMARY))
    records.ref_gone(ref)


def remove_copy(ctx: Context, records: Records, found: Found, ref: Ref, call: Call) -> None:
    """Take what is to go from the store, whole or half. Repeatable."""
    remove_image(
        ctx.archive(ref.store, ref.snapshot),
        ctx.site.store(ref.store),
        ref.volume,
        ref.snapshot,
        call,
        cut=found.order.cut,
        known=records.images(ref.volume, ref.store),
    )
    records.ref_gone(ref)
