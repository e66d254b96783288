"""Volume snapshots as an orchestrator asks for them: create, archive, delete, cancel.

    service = SnapshotService(Context(catalog=..., site=..., inventory=...))
    service.create(SnapshotRequest(id="snap-1", volume="vol-1", location="Archive"), call)
    service.archive("snap-1", call)        one that is on its pool, afterwards
    service.delete("snap-1", call)

    Allocated ─> Creating ─> CreatedOnPrimary <─> BackingUp ─> BackedUp ─> Destroying ─> Destroyed

Every operation may be repeated, in any process; what a dead one left, `transient.sync_volume` ends.
"""

from __future__ import annotations

from ...transfer_objects.enums import DataStoreRole
from ...transfer_objects.ids import SnapshotId
from ..catalog.snapshots import RefState, SnapshotState
from ..spi import Call, StorageError
from .decision import Goal
from .hooks import Act
from .snapshots_backup import Backup, remove_copy, remove_primary
from .snapshots_claims import claimed
from .snapshots_context import Context
from .snapshots_create import Creation, SnapshotRequest, release_all
from .snapshots_records import Found, Records


class SnapshotService:
    """See the module; safe for threads."""

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.records = Records(ctx.catalog, ctx.clock)

    def create(self, request: SnapshotRequest, call: Call, *, wait: bool = True) -> Found:
        """Make a snapshot, and bring it where it is to rest.

        Args:
            wait: until it is archived, if it is to be; else that is left to `BackupQueue`.

        Raises:
            InvalidArgument: bad location, volume not Ready.
            PermissionDenied: and LimitExceeded: authority and quota. No row is left of what was refused.
            Busy: another snapshot of the volume, or a VM snapshot, is being made.
            StorageError: of the storage. If it was the copy that failed, the snapshot is on its pool,
                usable, and the copy is tried again when it is due.
        """
        found = Creation(self.ctx, self.records, request).run(call)
        return self._backed_up(found, call) if wait else found

    def _backed_up(self, found: Found, call: Call) -> Found:
        """Archive it if it is to be; who cancels the call that he waits for wants the backup no more."""
        snapshot = SnapshotId(found.order.snapshot)
        if not found.order.wanted:
            return found
        try:
            return self.backup(snapshot, call)
        except StorageError:
            if call.cancelled():
                self.records.cancel(snapshot)
            raise

    def backup(self, snapshot: SnapshotId, call: Call) -> Found:
        """Make one attempt to archive a snapshot that is to be archived; see `Backup.run`."""
        with claimed(self.ctx.site.mover().journal, "snapshot", snapshot):
            found = self.records.get(snapshot)
            if not found.order.wanted:  # cancelled, or another process was first
                return found
            return Backup(self.ctx, self.records, snapshot).run(call)

    def archive(
        self,
        snapshot: SnapshotId,
        call: Call,
        *,
        account: str = "",
        keep_on_primary: bool = False,
        wait: bool = True,
    ) -> Found:
        """Bring a snapshot that is on its pool to secondary storage; it may have been tried before.

        Raises:
            InvalidArgument: it is not on its pool.
            StorageError: see `create`.
        """
        self.ctx.hooks.authority.check(account, Act.ARCHIVE, snapshot)
        goal = Goal.BOTH if keep_on_primary else Goal.SECONDARY
        with claimed(self.ctx.site.mover().journal, "snapshot", snapshot):
            found = self.records.want_backup(snapshot, goal)
        return self._backed_up(found, call) if wait else found

    def cancel(self, snapshot: SnapshotId, *, account: str = "") -> Found:
        """Stop the backup of a snapshot, also one that another process makes; it rests on its pool.

        That is when this returns, or within seconds when its copy is under way.
        """
        self.ctx.hooks.authority.check(account, Act.CANCEL, snapshot)
        return self.records.cancel(snapshot)

    def delete(self, snapshot: SnapshotId, call: Call, *, account: str = "") -> None:
        """Delete a snapshot wherever it lies; one that is deleted, or was never made, is fine.

        Raises:
            Busy: it is being made or copied.
            InUse: something is being made of it.
            StorageError: a store could not remove its part: it is Destroying, and a repeat goes on.
        """
        self.ctx.hooks.authority.check(account, Act.DELETE, snapshot)
        with claimed(self.ctx.site.mover().journal, "snapshot", snapshot):
            found = self.records.find(snapshot)
            if found is None or found.state is SnapshotState.DESTROYED:
                return
            if found.state is SnapshotState.ALLOCATED:
                release_all(self.ctx, found.order)
                self.records.forget(snapshot)
                return
            self.records.destroying(snapshot)
            remove_everywhere(self.ctx, self.records, snapshot, call)
        self.ctx.hooks.tell(account, Act.DELETE, snapshot)

    def show(self, snapshot: SnapshotId) -> Found:
        """Return a snapshot as it is recorded, or raise `NotFound`."""
        return self.records.get(snapshot)


def remove_everywhere(ctx: Context, records: Records, snapshot: SnapshotId, call: Call) -> None:
    """Go on deleting a snapshot that is Destroying: the pool first, which may refuse while clones need it."""
    found = records.get(snapshot)
    remove_remains(ctx, records, found, call)
    release_all(ctx, found.order)  # before the state: a crash in between releases it once more
    records.destroyed(snapshot)


def remove_remains(ctx: Context, records: Records, found: Found, call: Call) -> None:
    """Remove what any store has of a snapshot and is to go; what is to stay stays. Repeatable."""
    for role, remove in ((DataStoreRole.PRIMARY, remove_primary), (DataStoreRole.IMAGE, remove_copy)):
        ref = found.ref(role, RefState.DESTROYING)
        if ref is not None:
            remove(ctx, records, found, ref, call)
