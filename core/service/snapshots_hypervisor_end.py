"""Ending what a cut left at the hypervisor: after a failure, and after a crash, by a sync.

the VM has the volume            the guest is brought back, the overlay merged and removed
VM or disk is gone, no overlay   nothing was begun, or all was ended
VM or disk is gone, an overlay   kept: it may hold what the VM wrote last; the snapshot stays Creating
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ...transfer_objects.ids import SnapshotId, VmId, VolumeId
from ..pool import Pool
from ..spi import Call, FileLocation, NotFound, Unavailable
from .snapshots_context import Context
from .snapshots_hypervisor import (
    can_lead_elsewhere,
    files_of_cut,
    hypervisor_cut,
    needs_guest_elsewhere,
    vm_held,
)
from .snapshots_tables import SnapshotOrder


@contextmanager
def held_for_settling(ctx: Context, order: SnapshotOrder) -> Iterator[None]:
    """Hold the VM of a cut that is to be ended, if a hypervisor may have a part in it.

    Raises:
        Busy: somebody living works on the VM.
    """
    if order.vm and needs_guest_elsewhere(ctx.site.pool(order.pool)):
        with vm_held(ctx.site.mover().journal, VmId(order.vm)):
            yield
    else:
        yield


def end_cut(ctx: Context, order: SnapshotOrder, call: Call) -> None:
    """End what a cut of a snapshot that is Creating left at the hypervisor; repeatable.

    Raises:
        StorageError: it cannot be asked, or an overlay is there and nobody knows the VM: the snapshot is to
            stay Creating, so that nothing is done with the volume meanwhile.
    """
    pool, volume, snapshot = ctx.site.pool(order.pool), VolumeId(order.volume), SnapshotId(order.snapshot)
    if not order.vm or not needs_guest_elsewhere(pool):
        return
    cause: NotFound | None = None
    try:
        machine = ctx.inventory.machine(VmId(order.vm))
        if can_lead_elsewhere(pool, machine):
            hypervisor_cut(ctx, machine, pool, volume, snapshot, call).end(call)
            return
    except NotFound as error:
        cause = error
    overlay = _overlay_of(ctx, pool, volume, snapshot, call)
    if overlay is not None and overlay.path.exists():  # the newest data may be in it
        text = f"{overlay.path} may hold what VM {order.vm} wrote last, and cannot be merged without it"
        raise Unavailable(text) from cause


def _overlay_of(
    ctx: Context, pool: Pool, volume: VolumeId, snapshot: SnapshotId, call: Call
) -> FileLocation | None:
    """Return where the overlay of a cut would be; None if the volume is gone."""
    try:
        return files_of_cut(ctx, pool, volume, snapshot, call)[1]
    except NotFound:
        return None
