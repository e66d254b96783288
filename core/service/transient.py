"""After a restart: what became of the snapshots of a dead process, decided by asking pool and archive.

    Allocated    nothing was begun ───────────────────────────────> no row
    Creating     a guest that writes elsewhere comes back first; then
                 the pool has it ─────────────────────────────────> CreatedOnPrimary, its backup due
                 it has not ──────────────────────────────────────> Error, nothing left
    BackingUp    the copy is whole: read back, primary removed ───> BackedUp
                 it is not: removed ──────────────────────────────> CreatedOnPrimary, its backup due
    Destroying   goes on ─────────────────────────────────────────> Destroyed
    at rest      a copy that is to go goes

All of a volume, oldest first. What somebody living works on is left to him; a backend that does not answer
keeps its snapshot as it is, until the next sync. A guest that may stand frozen is thawed first.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack

from sqlalchemy import inspect, literal_column, or_, select

from ...transfer_objects.ids import SnapshotId, VmId, VolumeId
from ..catalog.snapshot_states import SNAPSHOTS
from ..catalog.snapshots import REFS, Ref, RefState, SnapshotRecord, SnapshotState
from ..catalog.unfinished import under_way
from ..spi import Busy, Call, GuestState, NotFound, Snapshot, StorageError, VmState
from ..steps import step
from ..vm_snapshots.families import family_of
from ..vm_snapshots.quiesce import guest_state, thaw
from .from_snapshot_sync import CLAIMS, Ended, settle_uses
from .snapshots import remove_everywhere, remove_remains
from .snapshots_backup import Backup
from .snapshots_claims import claimed, drop_void_claims
from .snapshots_context import Context
from .snapshots_create import release_all, undo_cut
from .snapshots_hypervisor_end import end_cut, held_for_settling
from .snapshots_records import Found, Records
from .snapshots_tables import UNFINISHED, SnapshotOrder, SnapshotUse

_log = logging.getLogger("bollard.service")
_S = SnapshotState
_TRANSIENT = (_S.ALLOCATED, _S.CREATING, _S.BACKING_UP, _S.DESTROYING)
# In the words of the indexes that hold only these: else everything that rests would be looked at.
_UNDER_WAY = under_way(inspect(SnapshotRecord).columns.state, SNAPSHOTS.transient)
_ALLOCATED = SnapshotRecord.state == literal_column("'Allocated'")
_HALF = (RefState.CREATING, RefState.DESTROYING)


def unfinished(ctx: Context, *, after: str = "", limit: int = 1000) -> list[VolumeId]:
    """Return a page of the volumes with something to sync, by id; costs what is transient, no more.

    Who asks for the first page begins a sync: the claims of the dead, which name nothing that exists, go.
    """
    if not after:
        drop_void_claims(ctx.site.mover().journal)
    orders = SnapshotOrder.snapshot
    chosen = (
        select(SnapshotRecord.volume).join(SnapshotOrder).where(_UNDER_WAY),
        select(SnapshotRecord.volume).join(SnapshotOrder).where(_ALLOCATED),
        select(Ref.volume)
        .join(SnapshotOrder, orders == Ref.snapshot)
        .where(under_way(inspect(Ref).columns.state, REFS.transient), Ref.state.in_(_HALF)),
        select(SnapshotOrder.volume).join(SnapshotUse, orders == SnapshotUse.snapshot).where(UNFINISHED),
    )
    with ctx.catalog.transaction() as session:
        # Sorted here: told to sort, a database reads the index by volume, and with it all that rests.
        found = {volume for one in chosen for volume in session.scalars(one) if volume > after}
    return [VolumeId(one) for one in sorted(found)[:limit]]


def sync_all(ctx: Context, call: Call) -> list[Ended]:
    """End all that dead processes left, volume by volume; a backend that does not answer delays its own."""
    ended: list[Ended] = []
    after = ""
    while page := unfinished(ctx, after=after):
        for volume in page:
            ended += end_volume(ctx, volume, call)
        after = page[-1]
    return ended


def sync_volume(ctx: Context, volume: VolumeId, call: Call) -> list[Ended]:
    """End all that dead processes left of one volume's snapshots, oldest first, and their claims."""
    drop_void_claims(ctx.site.mover().journal, _subjects(ctx, volume))
    return end_volume(ctx, volume, call)


def _subjects(ctx: Context, volume: VolumeId) -> set[tuple[str, str]]:
    """Return what a claim may be on: a volume, its snapshots, and what is or was made of them."""
    snapshots = select(SnapshotOrder.snapshot).where(SnapshotOrder.volume == volume)
    uses = select(SnapshotUse.kind, SnapshotUse.target).where(SnapshotUse.snapshot.in_(snapshots))
    vms = select(SnapshotOrder.vm).where(SnapshotOrder.volume == volume, SnapshotOrder.vm != "")
    with ctx.catalog.reading() as session:
        made = {(CLAIMS[kind], target) for kind, target in session.execute(uses)}
        made |= {("vm", vm) for vm in session.scalars(vms.distinct())}
        return made | {("volume", volume)} | {("snapshot", name) for name in session.scalars(snapshots)}


def end_volume(ctx: Context, volume: VolumeId, call: Call) -> list[Ended]:
    """As `sync_volume`, in a sync that has dropped all claims of the dead before."""
    records = Records(ctx.catalog, ctx.clock)
    ended: list[Ended] = []
    names = _left(ctx, volume)
    _sweep(ctx, volume)
    ended += settle_uses(ctx, volume, call)
    for name in names:
        found = records.find(name)
        if found is not None:
            ended += _end(ctx, records, found, call)
    return ended


def _left(ctx: Context, volume: VolumeId) -> Sequence[str]:
    halves = select(Ref.snapshot).where(Ref.volume == volume, Ref.state.in_(_HALF))
    chosen = (
        select(SnapshotRecord.id)
        .join(SnapshotOrder)
        .where(SnapshotRecord.volume == volume)
        .where(or_(SnapshotRecord.state.in_(_TRANSIENT), SnapshotRecord.id.in_(halves)))
    )
    with ctx.catalog.transaction() as session:
        return session.scalars(chosen.order_by(SnapshotRecord.created, SnapshotRecord.id)).all()


def _sweep(ctx: Context, volume: VolumeId) -> None:
    """Remove temporary clones first: some arrays delete no snapshot that has one."""
    chosen = select(SnapshotOrder.pool).where(SnapshotOrder.volume == volume).distinct()
    with ctx.catalog.transaction() as session:
        pools = session.scalars(chosen.order_by(SnapshotOrder.pool)).all()
    for pool in pools:
        try:
            ctx.site.mover().sweep_pool(ctx.site.pool(pool))
        except StorageError as error:
            _log.warning("pool %s cannot be swept now: %s", pool, error)


def _end(ctx: Context, records: Records, found: Found, call: Call) -> list[Ended]:
    snapshot = SnapshotId(found.order.snapshot)
    with ExitStack() as held:
        try:
            held.enter_context(claimed(ctx.site.mover().journal, "snapshot", snapshot))
        except Busy:
            return []
        current = records.find(snapshot)
        problem = "" if current is None else _problem_of(ctx, records, current, call)
    after = records.find(snapshot)
    state = after.state if after else "gone"
    return [Ended(kind="snapshot", id=snapshot, before=found.state, after=state, problem=problem)]


def _problem_of(ctx: Context, records: Records, found: Found, call: Call) -> str:
    try:
        _settle(ctx, records, found, call)
    except StorageError as error:
        _log.warning("snapshot %s stays %s: %s", found.order.snapshot, found.state, error)
        return error.message
    return ""


def _settle(ctx: Context, records: Records, found: Found, call: Call) -> None:
    snapshot = SnapshotId(found.order.snapshot)
    match found.state:
        case _S.ALLOCATED:
            release_all(ctx, found.order)
            records.forget(snapshot)
        case _S.CREATING:
            _settle_create(ctx, records, found, call)
        case _S.BACKING_UP:
            Backup(ctx, records, snapshot).go_on(call)
        case _S.DESTROYING:
            remove_everywhere(ctx, records, snapshot, call)
        case _:
            remove_remains(ctx, records, found, call)


def _settle_create(ctx: Context, records: Records, found: Found, call: Call) -> None:
    snapshot = SnapshotId(found.order.snapshot)
    with held_for_settling(ctx, found.order):
        if found.order.quiesce and found.order.vm:
            _thaw(ctx, VmId(found.order.vm), call)
        cut = _cut_of(ctx, found, call)
        if cut is None:
            undo_cut(ctx, records, snapshot, "interrupted before it was cut", call)
        else:
            end_cut(ctx, found.order, call)
            records.created(snapshot, cut, 0.0)


def _cut_of(ctx: Context, found: Found, call: Call) -> Snapshot | None:
    try:
        cut = ctx.site.pool(found.order.pool).snapshots.get(SnapshotId(found.order.snapshot), step(call))
    except NotFound:
        return None
    return cut if cut.volume == found.order.volume else None


def _thaw(ctx: Context, vm: VmId, call: Call) -> None:
    try:
        machine = ctx.inventory.machine(vm)
        hypervisor = machine.hypervisor
        running = hypervisor.vm_state(vm, step(call)) is VmState.RUNNING
        freezes = running and family_of(machine.family).freezes
        if freezes and guest_state(hypervisor, vm, call) is GuestState.FROZEN:
            thaw(hypervisor, vm)
    except StorageError as error:
        _log.warning("whether the guest of VM %s is frozen cannot be asked: %s", vm, error)
