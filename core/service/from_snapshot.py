"""A volume made of a snapshot, from wherever its bytes are to whatever pool is wanted.

    snapshot on          volume on             how
    a pool               the same pool         the pool clones, if it can
    a pool               any other pool        read on this machine (through a temporary clone), and written
    secondary storage    any pool              restored, every part checked

CloudStack refuses a managed pool's snapshot on another managed pool, and on one that is not managed; to the
mover all of them are blocks. Nothing temporary stays: the clone is the mover's, journalled; the volume is
ours until it is whole, recorded before it is made.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...transfer_objects.enums import DataStoreRole
from ...transfer_objects.ids import SnapshotId, VolumeId
from ..catalog.snapshots import RefState
from ..checks import check_id, check_name
from ..dataplane import BlockSink, copy
from ..intents import Entry
from ..pool import Pool
from ..spi import (
    Call,
    Capability,
    Conflict,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    StorageError,
    Unavailable,
    Volume,
    VolumeSpec,
)
from ..steps import step
from .from_snapshot_uses import Uses
from .hooks import Act, volume_key, volume_reservation
from .snapshots_claims import claimed, is_lost
from .snapshots_context import Context
from .snapshots_create import UNDO_SECONDS
from .snapshots_records import Found
from .snapshots_tables import SnapshotUse, UseKind


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeRequest:
    """A volume that somebody wants.

    Attributes:
        id: the caller's key, of a volume that does not exist yet.
        pool: name of the pool that it is to be on.
        size: bytes, at least the snapshot's; None: as many. What is behind reads zeros.
    """

    id: VolumeId
    pool: str
    name: str = ""
    size: int | None = None
    account: str = ""


def to_volume(ctx: Context, snapshot: SnapshotId, request: VolumeRequest, call: Call) -> Volume:
    """Make a volume of a snapshot, which `VolumeService` knows then; the same request gives the same volume.

    Raises:
        InvalidArgument: the snapshot is not at rest, or larger than the volume is to be.
        Conflict: there is another volume of this id on the pool, or there was one in the catalog.
        Unavailable: the pool takes nothing new.
        StorageError: nothing is left of the volume; after a crash, a sync removes it.
    """
    check_id("volume", request.id)
    check_name("name", request.name)
    ctx.hooks.authority.check(request.account, Act.TO_VOLUME, snapshot)
    if why := ctx.inventory.why_pool_is_off(request.pool):
        raise Unavailable(f"pool {request.pool} takes no new volumes: {why}")
    with claimed(ctx.site.mover().journal, "volume", request.id) as claim:
        made = _Making(ctx, Uses(ctx.catalog), snapshot, request, claim).run(call)
    ctx.hooks.tell(request.account, Act.TO_VOLUME, snapshot)
    return made


@dataclass(frozen=True, slots=True)
class _Making:
    """One volume on its way."""

    ctx: Context
    uses: Uses
    snapshot: SnapshotId
    request: VolumeRequest
    claim: Entry

    def run(self, call: Call) -> Volume:
        request, pool = self.request, self.ctx.site.pool(self.request.pool)
        # A half-filled volume of a killed run would be filled here, and removed by a later sweep.
        self.ctx.site.mover().sweep_pool(pool)
        found = self.uses.readable(self.snapshot)
        size = self._size(found)
        there = volume_on(pool, request.id, call)
        known = self.uses.find(UseKind.VOLUME, request.id)
        if known is None and there is not None:
            raise Conflict(f"pool {pool.name!r} has a volume {request.id} already")
        if known is not None and known.finished:
            if there is None:
                self.uses.lost(request.id, pool.name)
            elif known.snapshot == self.snapshot:
                self.uses.finish_volume(there, self._use(), request.name)
                return there
            else:
                raise Conflict(f"volume {request.id} was made of snapshot {known.snapshot}")
        self.uses.begin(self._use())
        return self._made(pool, found, VolumeSpec(id=request.id, size=size, name=request.name), call)

    def _size(self, found: Found) -> int:
        size = found.record.size if self.request.size is None else self.request.size
        if size < found.record.size:
            raise InvalidArgument(
                f"size must be at least the snapshot's {found.record.size} bytes, got {size}"
            )
        return size

    def _use(self) -> SnapshotUse:
        request = self.request
        return SnapshotUse(
            kind=UseKind.VOLUME,
            target=request.id,
            snapshot=self.snapshot,
            place=request.pool,
            account=request.account,
        )

    def _reserve(self, size: int) -> None:
        request = self.request
        self.ctx.hooks.quota.reserve(volume_reservation(request.id, request.account, size))

    def _made(self, pool: Pool, found: Found, spec: VolumeSpec, call: Call) -> Volume:
        try:
            self._reserve(spec.size)
            made = make_volume(self.ctx, found, pool, spec, call)
        except StorageError:
            if not self._is_lost():
                remove_volume(self.ctx, self.uses, spec.id, pool, Call.within(UNDO_SECONDS))
            raise
        if self._is_lost():
            raise Conflict(f"volume {spec.id}: others have taken over")
        self.uses.finish_volume(made, self._use(), spec.name)
        return made

    def _is_lost(self) -> bool:
        return is_lost(self.ctx.site.mover().journal, self.claim)


def volume_on(pool: Pool, volume: VolumeId, call: Call) -> Volume | None:
    """Return a volume of a pool, or None."""
    try:
        return pool.volumes.get(volume, step(call))
    except NotFound:
        return None


def remove_volume(ctx: Context, uses: Uses, volume: VolumeId, pool: Pool, call: Call) -> None:
    """Remove a volume that is not whole, then its record. Repeatable.

    Raises:
        StorageError: it stays recorded, for a sync.
    """
    pool.volumes.delete(volume, step(call))
    ctx.hooks.quota.release(volume_key(volume))
    uses.drop(UseKind.VOLUME, volume)


def make_volume(ctx: Context, found: Found, pool: Pool, spec: VolumeSpec, call: Call) -> Volume:
    """Make a volume that does not exist, of whatever there is of a snapshot; half of it goes again."""
    snapshot = SnapshotId(found.order.snapshot)
    primary = found.ref(DataStoreRole.PRIMARY, RefState.READY)
    clones = Capability.VOLUME_FROM_SNAPSHOT in pool.capabilities().native
    if primary is not None and primary.store == pool.name and clones:
        return pool.volumes.from_snapshot(snapshot, spec, step(call))
    mover = ctx.site.mover()
    with mover.filling_volume(pool, spec.id):
        made = pool.volumes.create(spec, step(call))
        with mover.writing_volume(pool, spec.id) as sink:
            write_snapshot(ctx, found, pool.throttle.sink(sink, call), call, sink_is_zero=True)
    return made


def write_snapshot(ctx: Context, found: Found, sink: BlockSink, call: Call, *, sink_is_zero: bool) -> None:
    """Write a snapshot to a sink that is large enough, and flush it.

    Raises:
        NotFound: none of its stores has it any more.
        DataLoss: an archived part is damaged; what was written before was right.
    """
    order = found.order
    primary = found.ref(DataStoreRole.PRIMARY, RefState.READY)
    if primary is None:
        archive = ctx.archive(order.store, order.snapshot)
        archive.restore(sink, call, volume=order.volume, snapshot=order.snapshot, sink_is_zero=sink_is_zero)
        return
    source_pool = ctx.site.pool(primary.store)
    with ctx.site.mover().reading_snapshot(source_pool, SnapshotId(order.snapshot)) as source:
        copy(
            source_pool.throttle.source(source, call),
            sink,
            sink_is_zero=sink_is_zero,
            progress=call.progress,
            cancelled=lambda: is_over(call),
        )


def is_over(call: Call) -> bool:
    """Tell whether a copy is to stop."""
    try:
        call.check()
    except DeadlineExceeded:
        return True
    return False
