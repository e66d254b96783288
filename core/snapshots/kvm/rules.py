"""When a snapshot is a full and when a delta, what ends a chain, and what a deletion takes with it.

Pure functions over the records of one volume, on all its stores; docs/incremental-snapshots.md has them
as tables. `refs` is always what `refs_of_volume` returns: everything that is not gone, oldest first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from ....transfer_objects.enums import DataStoreRole, StoragePoolType
from ...catalog.snapshots import Reason, Ref, RefState
from ...spi.errors import Busy, HasDependents, Unsupported

FILE_POOLS = frozenset(
    {
        StoragePoolType.FILESYSTEM,
        StoragePoolType.NETWORK_FILESYSTEM,
        StoragePoolType.SHARED_MOUNT_POINT,
    }
)
"""Pools whose volumes are qcow2 files: only there QEMU can keep a bitmap."""

_UNDER_WAY = (RefState.CREATING, RefState.MIGRATING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the next snapshot will be.

    Attributes:
        parent: what it holds the changes to; None: a full, because of `full_reason`.
        checkpoint: the hypervisor goes on tracking, so that the next one can be a delta.
    """

    parent: Ref | None = None
    full_reason: Reason | None = None
    checkpoint: bool = True


def check_pool(pool_type: StoragePoolType) -> None:
    """Raise `Unsupported` where no bitmap can be kept: such volumes have full snapshots, by other means."""
    if pool_type not in FILE_POOLS:
        raise Unsupported(
            f"incremental snapshots need a pool of files, this one is {pool_type}: take a full one"
        )


def check_idle(refs: Iterable[Ref]) -> None:
    """Raise `Busy` while a snapshot of the volume is being made or moved; a copy hinders nobody."""
    for ref in refs:
        if (ref.state in _UNDER_WAY and ref.full_reason is not Reason.COPIED) or ref.backing_up:
            raise Busy(f"snapshot {ref.snapshot} of volume {ref.volume} is not finished on {ref.store}")


def plan(
    refs: Sequence[Ref],
    *,
    enabled: bool,
    delta_max: int,
    role: DataStoreRole,
    reachable: Collection[str],
    whole: Collection[str],
) -> Plan:
    """Decide what the next snapshot of the volume is.

    Args:
        enabled: kvm.incremental.snapshot; `delta_max`: snapshot.delta.max.
        role: of the store that it goes to.
        reachable: ids of the stores whose snapshots a new one there can be based on.
        whole: names of the checkpoints whose bitmaps the hypervisor has found whole.
    """
    parent = candidate(refs)
    reason = _why_full(refs, parent, delta_max, role, reachable, whole) if enabled else Reason.SETTING_OFF
    if reason is None:
        return Plan(parent=parent)
    return Plan(full_reason=reason, checkpoint=enabled)


def candidate(refs: Sequence[Ref]) -> Ref | None:
    """Return the newest snapshot that was left with a checkpoint, whether or not its chain has ended."""
    ready = [ref for ref in refs if ref.state is RefState.READY and ref.checkpoint]
    return ready[-1] if ready else None


def _why_full(
    refs: Sequence[Ref],
    parent: Ref | None,
    delta_max: int,
    role: DataStoreRole,
    reachable: Collection[str],
    whole: Collection[str],
) -> Reason | None:
    if parent is None:
        return Reason.FIRST
    if parent.end_of_chain:
        return parent.end_reason
    if parent.role is not role:
        return Reason.ROLE_SWITCHED
    if parent.store not in reachable:
        return Reason.OTHER_STORE
    if len(chain(refs, parent)) >= delta_max:
        return Reason.LENGTH
    if parent.checkpoint not in whole:
        return Reason.LOST_CHECKPOINT
    return None


def chain(refs: Sequence[Ref], ref: Ref) -> list[Ref]:
    """Return the refs that it takes to read one: itself, its parent, and so on to the full."""
    known = {one.id: one for one in refs}
    found = [ref]
    while found[-1].parent is not None:
        found.append(known[found[-1].parent])
    return found


def children(refs: Iterable[Ref], ref: Ref) -> list[Ref]:
    """Return what is based on it, on whichever store (apache/cloudstack#11180 looked at one only)."""
    return [one for one in refs if one.parent == ref.id]


def with_chain(refs: Sequence[Ref], ref: Ref) -> list[Ref]:
    """Return every ref that shares the full of this one, oldest first."""
    root = chain(refs, ref)[-1]
    return [one for one in refs if chain(refs, one)[-1] is root]


def pass_mark(refs: Sequence[Ref], ref: Ref) -> None:
    """Before `ref` goes: its parent is the end of the chain now, since the checkpoint was not its."""
    parent = next((one for one in refs if one.id == ref.parent), None)
    if parent:
        parent.end_chain(ref.end_reason or Reason.NEWEST_DELETED)


def orphaned(refs: Sequence[Ref]) -> list[Ref]:
    """Return what was kept for others only, and the others are gone."""
    return [ref for ref in refs if ref.state is RefState.HIDDEN and not children(refs, ref)]


def check_move(refs: Sequence[Ref]) -> None:
    """Raise `HasDependents` if the volume may not leave its pool, since snapshots would stay behind."""
    secondary = {ref.snapshot for ref in refs if ref.role is not DataStoreRole.PRIMARY}
    left = [
        ref.snapshot for ref in refs if ref.role is DataStoreRole.PRIMARY and ref.snapshot not in secondary
    ]
    if left:
        raise HasDependents(
            f"volume {refs[0].volume} has snapshots only in primary storage ({', '.join(left)}): delete them"
            " or copy them to secondary storage first"
        )
