"""A volume put back to one of its snapshots, wherever either of them is now.

    snapshot on the volume's own pool, which can revert   by the pool, in one step of the pool
    snapshot on secondary storage, or on another pool     read back first, then written over the volume

Either is recorded before it begins, and brought to its end by a repeat or a sync. Until then nothing else is
done with the volume (`exclusion`, `snapshots_checks.check_not_reverting`).
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from ...transfer_objects.enums import DataStoreRole
from ...transfer_objects.ids import SnapshotId, VolumeId
from ..catalog.snapshots import Ref, RefState
from ..pool import Pool
from ..spi import Call, Capability, Conflict, HasDependents, InUse, Outcome, StorageError
from ..steps import step
from ..vm_snapshots.guards import Act as VmAct
from . import snapshots_checks as checks
from .exclusion import check_volume_free
from .from_snapshot import write_snapshot
from .from_snapshot_uses import Uses
from .hooks import Act
from .snapshots_backup import check_whole
from .snapshots_claims import claimed
from .snapshots_context import Context
from .snapshots_records import Found
from .snapshots_tables import SnapshotOrder, SnapshotUse, UseKind


def revert(ctx: Context, snapshot: SnapshotId, call: Call, *, account: str = "") -> None:
    """Put a snapshot's volume back to it; may be repeated.

    Raises:
        InUse: the VM runs, or a host has access to the volume. A revert under a guest would do nothing,
            or harm (#4356).
        HasDependents: the VM has VM snapshots, or newer snapshots of the volume would be lost.
        Conflict: the volume has another size now.
        DataLoss: the archived copy is damaged; the volume was not touched.
        StorageError: outcome unknown: the volume may be half reverted; a repeat or a sync goes on.
    """
    ctx.hooks.authority.check(account, Act.REVERT, snapshot)
    uses = Uses(ctx.catalog)
    volume = VolumeId(uses.readable(snapshot).order.volume)
    journal = ctx.site.mover().journal
    with claimed(journal, "volume", volume), claimed(journal, "snapshot", snapshot):
        _Reverting(ctx, uses, uses.readable(snapshot), account).run(call)
    ctx.hooks.tell(account, Act.REVERT, snapshot)


@dataclass(frozen=True, slots=True)
class _Reverting:
    """One revert; whoever runs it has the claims of volume and snapshot."""

    ctx: Context
    uses: Uses
    found: Found
    account: str

    def run(self, call: Call) -> None:
        ctx, volume = self.ctx, VolumeId(self.found.order.volume)
        facts = ctx.inventory.volume(volume)
        check_volume_free(ctx.catalog, volume)
        checks.check_place(ctx, facts)
        machine = checks.machine_of(ctx, facts, VmAct.REVERT_VOLUME)
        if checks.is_running(machine, call):
            raise InUse(f"volume {volume} is in use by VM {facts.vm}: stop it first")
        self.bring_back(ctx.site.pool(facts.pool), volume, call)

    def bring_back(self, pool: Pool, volume: VolumeId, call: Call) -> None:
        """Do it, or do it again, whichever way it can be done now."""
        primary = self.found.ref(DataStoreRole.PRIMARY, RefState.READY)
        half = self.uses.find(UseKind.REVERT, volume) is not None
        able = Capability.REVERT in pool.capabilities().native
        if primary is None or primary.store != pool.name or not able:
            self._overwrite(pool, volume, call)
        elif pool.traits.revert_keeps_newer or not (newer := self._newer(pool)):
            self._by_pool(pool, volume, call, half=half)
        elif half:
            self._overwrite(pool, volume, call)
        else:
            raise HasDependents(f"pool {pool.name!r} would lose newer snapshots, such as {newer[0]}")

    def _by_pool(self, pool: Pool, volume: VolumeId, call: Call, *, half: bool) -> None:
        self.ctx.site.mover().sweep_pool(pool)  # a dead writer's access keeps the pool from reverting
        self.uses.begin(self._use(pool, volume))
        try:
            pool.volumes.revert(volume, SnapshotId(self.found.order.snapshot), step(call))
        except StorageError as error:
            if error.outcome is Outcome.NOT_APPLIED and not half:
                self.uses.drop(UseKind.REVERT, volume)
            raise
        self.uses.drop(UseKind.REVERT, volume)

    def _use(self, pool: Pool, volume: VolumeId) -> SnapshotUse:
        return SnapshotUse(
            kind=UseKind.REVERT,
            target=volume,
            snapshot=self.found.order.snapshot,
            place=pool.name,
            account=self.account,
        )

    def _newer(self, pool: Pool) -> list[str]:
        order = self.found.order
        chosen = (
            select(Ref.snapshot)
            .join(SnapshotOrder, SnapshotOrder.snapshot == Ref.snapshot)
            .where(Ref.volume == order.volume, Ref.store == pool.name, Ref.state == RefState.READY)
            .where(SnapshotOrder.cut > order.cut)
        )
        with self.ctx.catalog.transaction() as session:
            return [*session.scalars(chosen.order_by(SnapshotOrder.cut))]

    def _overwrite(self, pool: Pool, volume: VolumeId, call: Call) -> None:
        """Write the snapshot over the volume; recorded from before the first byte until after the last."""
        self._check(pool, volume, call)
        use, mover = self._use(pool, volume), self.ctx.site.mover()
        mover.sweep_pool(pool)
        # A grant that cannot be had comes before the record: then nothing has been begun.
        with mover.unlimited(pool, volume), mover.writing_volume(pool, volume) as sink:
            self.uses.begin(use)
            write_snapshot(self.ctx, self.found, pool.throttle.sink(sink, call), call, sink_is_zero=False)
        self.uses.drop(UseKind.REVERT, volume)

    def _check(self, pool: Pool, volume: VolumeId, call: Call) -> None:
        """Refuse what would leave the volume half written for a reason that is known now."""
        order = self.found.order
        size = pool.volumes.get(volume, step(call)).size
        if size != self.found.record.size:
            raise Conflict(
                f"volume {volume} has {size} bytes now, and {self.found.record.size} in the snapshot:"
                " make a new volume of it"
            )
        others = pool.volumes.grants(volume, step(call)) if pool.managed else ()
        mine = self.ctx.site.mover().host.id
        if granted := [grant.host for grant in others if grant.host != mine]:
            raise InUse(f"volume {volume} is granted to {', '.join(granted)}")
        if self.found.ref(DataStoreRole.PRIMARY, RefState.READY) is None:
            check_whole(self.ctx.engine(order.pool, order.store, order.snapshot), self.found, call)


def go_on_reverting(ctx: Context, use: SnapshotUse, call: Call) -> None:
    """Finish a revert that a dead process had begun; whoever calls has the claim of the volume.

    Raises:
        StorageError: the volume stays half reverted, and recorded as such.
    """
    uses = Uses(ctx.catalog)
    found = uses.readable(use.snapshot)
    facts = ctx.inventory.volume(VolumeId(use.target))
    if facts.vm is not None and checks.is_running(ctx.inventory.machine(facts.vm), call):
        raise InUse(f"volume {use.target} is in use by VM {facts.vm}: stop it first")
    with claimed(ctx.site.mover().journal, "snapshot", use.snapshot):
        _Reverting(ctx, uses, found, use.account).bring_back(
            ctx.site.pool(use.place), VolumeId(use.target), call
        )
