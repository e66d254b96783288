"""What is looked at before a snapshot is cut: each refusal says which rule, and nothing has been done.

the volume exists and is Ready          the pool takes new things, and can make what is asked for
the VM has no VM snapshot under way     nobody else has a snapshot of this id on the pool
"""

from __future__ import annotations

from datetime import UTC, datetime

from ...transfer_objects.ids import SnapshotId, VolumeId
from ..catalog import Catalog
from ..checks import check_id, check_name
from ..pool import Pool
from ..settings import BACKUP_TO_SECONDARY
from ..spi import (
    Busy,
    Call,
    Capability,
    Conflict,
    InvalidArgument,
    NotFound,
    QuiescedSnapshots,
    Unavailable,
    Unsupported,
    VmState,
)
from ..steps import step
from ..vm_snapshots.families import family_of
from ..vm_snapshots.guards import Act, check_act
from ..vm_snapshots.machine import Machine
from ..vm_snapshots.records import Records as VmSnapshotRecords
from .decision import Facts, Maker
from .from_snapshot_uses import Uses
from .snapshots_context import Context, VolumeFacts
from .snapshots_hypervisor import can_lead_elsewhere, needs_guest_elsewhere
from .snapshots_tables import SnapshotOrder, UseKind


def check_request(snapshot: SnapshotId, volume: VolumeId, name: str) -> None:
    """Refuse what could not be kept or found again."""
    check_id("snapshot", snapshot)
    check_id("volume", volume)
    check_name("name", name)


def default_name(facts: VolumeFacts, clock: float) -> str:
    """Return the name of a snapshot that was given none: VM, volume and time, as users know it."""
    moment = f"{datetime.fromtimestamp(clock, UTC):%Y%m%d%H%M%S}"
    return "_".join(part for part in (facts.vm_name or facts.vm, facts.name or facts.volume, moment) if part)


def check_not_reverting(catalog: Catalog, volume: VolumeId) -> None:
    """Refuse to use a volume that is half reverted.

    Raises:
        Busy: until the revert was repeated or synced.
    """
    use = Uses(catalog).find(UseKind.REVERT, volume)
    if use is not None:
        raise Busy(f"volume {volume} is being reverted to snapshot {use.snapshot}: a sync ends it")


def check_place(ctx: Context, facts: VolumeFacts) -> None:
    """Refuse a volume or pool that is not to be worked on now.

    Raises:
        InvalidArgument: the volume is not Ready.
        Unavailable: the pool is off; nothing was asked of it.
    """
    if facts.why_not_ready:
        raise InvalidArgument(f"volume {facts.volume} is not Ready: {facts.why_not_ready}")
    if why := ctx.inventory.why_pool_is_off(facts.pool):
        raise Unavailable(f"pool {facts.pool} takes no new snapshots: {why}")


def machine_of(ctx: Context, facts: VolumeFacts, act: Act) -> Machine | None:
    """Return the volume's VM, if its VM snapshots allow what is to be done.

    Raises:
        Busy: a VM snapshot is being made, reverted or deleted.
        InUse: VM snapshots keep the volume as a chain of files.
        HasDependents: VM snapshots must go first.
    """
    if facts.vm is None:
        return None
    check_act(VmSnapshotRecords(ctx.catalog), facts.vm, act)
    return ctx.inventory.machine(facts.vm)


def check_same_place(pool: Pool, order: SnapshotOrder, facts: VolumeFacts) -> None:
    """Refuse to go on with a cut where it was not begun: what was, would not be looked for here.

    Raises:
        Busy: the volume is on another pool now, or, being a file, at another VM; a sync ends what was begun.
    """
    same_vm = order.vm == (facts.vm or "") or not needs_guest_elsewhere(pool)
    if order.pool != facts.pool or not same_vm:
        raise Busy(
            f"snapshot {order.snapshot} was begun where volume {order.volume} was then: a sync ends it"
        )


def is_running(machine: Machine | None, call: Call) -> bool:
    """Tell whether a guest may write to the volume now; a paused one goes on at any time."""
    if machine is None:
        return False
    return machine.hypervisor.vm_state(machine.vm, step(call)) is not VmState.STOPPED


def facts_for_decision(
    ctx: Context, pool: Pool, facts: VolumeFacts, machine: Machine | None, call: Call, *, keep: bool
) -> Facts:
    """Return what `decide` goes by; a storage that cannot cut under a running guest has no snapshots now."""
    able = pool.capabilities().native
    if not pool.traits.snapshot_while_attached and is_running(machine, call):
        able = able - {Capability.SNAPSHOTS}
    return Facts(
        managed=pool.managed,
        image_format=facts.image_format,
        able=able,
        hypervisor_cuts=Capability.SNAPSHOTS in pool.capabilities().native
        and can_lead_elsewhere(pool, machine),
        backup_to_secondary=ctx.settings.get(BACKUP_TO_SECONDARY, facts.where),
        keep_on_primary=keep,
    )


def check_quiesce(pool: Pool, machine: Machine | None, maker: Maker, call: Call) -> None:
    """Refuse what could only be done without a quiesced guest; one that is off has nothing to quiesce.

    Raises:
        Unsupported: the pool cannot have the guest frozen, or its hypervisor freezes none.
    """
    if machine is None:
        return
    if maker is Maker.STORAGE and not can_lead_elsewhere(pool, machine):
        pool.require(QuiescedSnapshots)
    if is_running(machine, call) and not family_of(machine.family).freezes:
        raise Unsupported(f"{machine.family} freezes no guests: VM {machine.vm} cannot be quiesced")


def check_free(pool: Pool, snapshot: SnapshotId, call: Call) -> None:
    """Refuse an id under which the pool has something that this service did not make.

    Raises:
        Conflict: it would be taken for ours, and deleted with ours.
    """
    try:
        found = pool.snapshots.get(snapshot, step(call))
    except NotFound:
        return
    raise Conflict(f"pool {pool.name!r} has a snapshot {snapshot} already, of volume {found.volume}")
