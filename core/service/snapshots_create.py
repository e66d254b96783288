"""Making a snapshot: recorded, checked, reserved, cut.

    authority ─ decision ─ claim ─ Allocated ─ checks ─ quota ─ Creating ══ cut ══> CreatedOnPrimary
        │ refused: no trace           └ refused: the row goes         └ failed: undone, Error

The copy to secondary storage comes after, in `snapshots_backup`: the guest is not held up by it.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from ...transfer_objects.enums import DataStoreRole
from ...transfer_objects.ids import SnapshotId, VolumeId
from ..catalog.snapshots import SnapshotState
from ..pool import Pool
from ..spi import Call, Conflict, Guest, NotFound, Snapshot, StorageError
from ..steps import step
from ..vm_snapshots.guards import Act as VmAct
from ..vm_snapshots.machine import Machine, VmVolume
from ..vm_snapshots.records import Records as VmSnapshotRecords
from ..vm_snapshots.volume_quiesce import snapshot_volume
from . import snapshots_checks as checks
from .decision import Maker, Plan, decide
from .exclusion import check_volume_free
from .hooks import Act, Reservation
from .snapshots_claims import claimed
from .snapshots_context import Context, VolumeFacts
from .snapshots_hypervisor import can_lead_elsewhere, hypervisor_cut, vm_held
from .snapshots_hypervisor_end import end_cut
from .snapshots_records import Found, Records
from .snapshots_tables import SnapshotOrder

UNDO_SECONDS = 120.0  # on top of the call's deadline: what is half made must not stay


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotRequest:
    """What somebody asks for.

    Attributes:
        id: the caller's key: the same id and request give the same snapshot, never a later cut.
        location: Standard, Archive, PRIMARY or SECONDARY, in any case; None: the default of the pool.
        name: "" for one made of VM, volume and time.
        quiesce: freeze the guest for the cut.
        keep_on_primary: if it is archived, it stays on the pool as well.
    """

    id: SnapshotId
    volume: VolumeId
    location: str | None = None
    name: str = ""
    account: str = ""
    quiesce: bool = False
    keep_on_primary: bool = False


@dataclass(frozen=True, slots=True)
class Creation:
    """One request on its way."""

    ctx: Context
    records: Records
    request: SnapshotRequest

    def run(self, call: Call) -> Found:
        """Make it, up to the cut.

        Raises:
            StorageError: nothing is left of it on the pool, except after an outcome that is unknown:
                then the snapshot is Creating, and a repeat or the sync ends it.
        """
        ctx, request = self.ctx, self.request
        checks.check_request(request.id, request.volume, request.name)
        ctx.hooks.authority.check(request.account, Act.CREATE, request.volume)
        facts = ctx.inventory.volume(request.volume)
        with claimed(ctx.site.mover().journal, "snapshot", request.id):
            found = self.records.find(request.id)
            if found is None or found.state in (SnapshotState.ALLOCATED, SnapshotState.ERROR):
                return self._made(facts, call)
            found = self.records.allocate(self._order(facts, _plan_of(found)), request.volume)
            if found.state is SnapshotState.CREATING:
                return self._cut(found, facts, Maker.HYPERVISOR, call)  # it may have been, so it may go on
            if found.state in (SnapshotState.DESTROYING, SnapshotState.DESTROYED):
                raise Conflict(f"snapshot {request.id} was deleted: ids are not used twice")
            return found

    def _made(self, facts: VolumeFacts, call: Call) -> Found:
        ctx, request = self.ctx, self.request
        check_volume_free(ctx.catalog, request.volume)  # else it is told as a volume that is not Ready
        checks.check_place(ctx, facts)
        checks.check_not_reverting(ctx.catalog, request.volume)
        pool = ctx.site.pool(facts.pool)
        machine = checks.machine_of(ctx, facts, VmAct.SNAPSHOT_VOLUME)
        about = checks.facts_for_decision(ctx, pool, facts, machine, call, keep=request.keep_on_primary)
        plan = decide(request.location, about)
        if request.quiesce:
            checks.check_quiesce(pool, machine, plan.maker, call)
        found = self.records.allocate(self._order(facts, plan), request.volume)
        try:
            if found.state is SnapshotState.ALLOCATED:
                checks.check_free(pool, request.id, call)
            self._reserve(found, pool.volumes.get(request.volume, step(call)).size)
        except StorageError:
            self._refused(found)
            raise
        maker = Maker.HYPERVISOR if request.quiesce else plan.maker
        return self._cut(found, facts, maker, call)

    def _order(self, facts: VolumeFacts, plan: Plan) -> SnapshotOrder:
        request = self.request
        return SnapshotOrder(
            snapshot=request.id,
            volume=request.volume,
            name=request.name or checks.default_name(facts, self.ctx.clock()),
            account=request.account,
            pool=facts.pool,
            store=facts.store,
            location=plan.location,
            goal=plan.goal,
            quiesce=request.quiesce,
            vm=facts.vm or "",
            host=facts.host,
        )

    def _reserve(self, found: Found, size: int) -> None:
        quota, order = self.ctx.hooks.quota, found.order
        quota.reserve(reservation(order, DataStoreRole.PRIMARY, size))
        if order.goal.needs_backup:
            quota.reserve(reservation(order, DataStoreRole.IMAGE, size))

    def _refused(self, found: Found) -> None:
        if found.state is SnapshotState.CREATING:  # of a run before: it is still to be ended
            return
        release_all(self.ctx, found.order)
        if found.state is SnapshotState.ALLOCATED:
            self.records.forget(found.order.snapshot)

    def _cut(self, found: Found, facts: VolumeFacts, maker: Maker, call: Call) -> Found:
        """Cut it, with the hypervisor's help if that may be needed and can be had."""
        ctx, request, pool = self.ctx, self.request, self.ctx.site.pool(facts.pool)
        with ExitStack() as held:
            try:
                checks.check_same_place(pool, found.order, facts)
                machine = checks.machine_of(ctx, facts, VmAct.SNAPSHOT_VOLUME)
                helped = maker is Maker.HYPERVISOR and can_lead_elsewhere(pool, machine)
                if machine is not None and helped:
                    held.enter_context(vm_held(ctx.site.mover().journal, machine.vm))
                    # Looked at again: a VM snapshot may have begun, and have ended, before it was held.
                    machine = checks.machine_of(ctx, facts, VmAct.SNAPSHOT_VOLUME)
                self.records.begin(request.id)
            except StorageError:
                self._refused(found)
                raise
            take = self._led_elsewhere if helped else self._taken
            try:
                cut, frozen = take(pool, machine, call)
            except StorageError as error:
                undo_cut(ctx, self.records, request.id, error.message, Call.within(UNDO_SECONDS))
                raise
            made = self.records.created(request.id, cut, frozen)
        ctx.hooks.tell(request.account, Act.CREATE, request.id)
        return made

    def _led_elsewhere(self, pool: Pool, machine: Machine | None, call: Call) -> tuple[Snapshot, float]:
        request = self.request
        if machine is None:
            return self._taken(pool, machine, call)
        cut = hypervisor_cut(self.ctx, machine, pool, request.volume, request.id, call)
        return cut.take(call, quiesce=request.quiesce)

    def _taken(self, pool: Pool, machine: Machine | None, call: Call) -> tuple[Snapshot, float]:
        request = self.request

        def take(guest: Guest | None) -> Snapshot:
            return pool.snapshots.create(request.volume, request.id, step(call), guest=guest)

        if machine is None:
            return take(None), 0.0
        volume = VmVolume(volume=request.volume, device="", pool=pool)
        cut = snapshot_volume(
            VmSnapshotRecords(self.ctx.catalog), machine, volume, take, call, quiesce=request.quiesce
        )
        return cut.snapshot, cut.frozen_seconds


def _plan_of(found: Found) -> Plan:
    return Plan(location=found.order.location, goal=found.order.goal, maker=Maker.STORAGE)


def reservation(order: SnapshotOrder, role: DataStoreRole, size: int) -> Reservation:
    """Return what a quota counts for a snapshot on one kind of storage."""
    return Reservation(key=key_of(order.snapshot, role), account=order.account, role=role, size=size)


def key_of(snapshot: str, role: DataStoreRole) -> str:
    """Return the key of a reservation."""
    return f"snapshot/{snapshot}/{role.value}"


def release_all(ctx: Context, order: SnapshotOrder) -> None:
    """Give back what was reserved for a snapshot, on primary and on secondary storage; repeatable."""
    for role in (DataStoreRole.PRIMARY, DataStoreRole.IMAGE):
        ctx.hooks.quota.release(key_of(order.snapshot, role))


def undo_cut(ctx: Context, records: Records, snapshot: SnapshotId, why: str, call: Call) -> Found:
    """Remove what a cut that failed may have left; the snapshot ends in Error.

    Raises:
        StorageError: whether anything is left cannot be said now; it stays Creating.
    """
    found = records.get(snapshot)
    pool = ctx.site.pool(found.order.pool)
    end_cut(ctx, found.order, call)  # while it may be that a guest writes elsewhere, the volume is not whole
    remove_cut(pool, snapshot, VolumeId(found.order.volume), call)
    # Before the state: a crash in between releases it once more, and never counts it for ever.
    release_all(ctx, found.order)
    ctx.hooks.tell(found.order.account, Act.CREATE, snapshot, why)
    return records.failed(snapshot, why)


def remove_cut(pool: Pool, snapshot: SnapshotId, volume: VolumeId, call: Call) -> None:
    """Remove a snapshot from a pool, if it is of this volume. Repeatable."""
    try:
        found = pool.snapshots.get(snapshot, step(call))
    except NotFound:
        return
    if found.volume == volume:
        pool.snapshots.delete(snapshot, step(call))
