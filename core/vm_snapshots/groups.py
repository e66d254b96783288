"""The volumes of a VM by who keeps them: the driver-level strategy cuts, reverts and deletes by group.

PoolGroup     one storage with `VmSnapshots`: all of its volumes in one shot
VolumeGroup   one storage with `Snapshots` only: one by one
FileGroup     all volumes that are files: overlays, one atomic act of the hypervisor
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from ...transfer_objects.ids import SnapshotId, VolumeId
from ..pool import Pool
from ..spi import Call, Capability, InUse, NotFound, VmRef
from ..steps import step
from .chain import Chain
from .members import Member, MemberKind


class Group(ABC):
    """Volumes that one driver snapshots."""

    one_shot: bool

    @abstractmethod
    def cut(self, ref: VmRef, call: Call) -> bool:
        """Cut all, or none; returns whether the guest has to be thawed by somebody else."""

    @abstractmethod
    def uncut(self, ref: VmRef, call: Call) -> None:
        """Undo a cut that failed, was killed, or is not wanted after all."""

    @abstractmethod
    def check_revert(self, ref: VmRef, call: Call) -> None:
        """Raise what a revert would fail with, as far as that can be known before."""

    @abstractmethod
    def revert(self, ref: VmRef, call: Call) -> None:
        """Put all back; repeatable."""

    @abstractmethod
    def delete(self, ref: VmRef, call: Call) -> bool:
        """Delete all; False if others still stand on the data."""


@dataclass(frozen=True, slots=True)
class PoolGroup(Group):
    """All volumes of a VM on one storage."""

    pool: Pool
    volumes: Sequence[VolumeId]
    one_shot = True

    def cut(self, ref: VmRef, call: Call) -> bool:
        """See `Group.cut`."""
        return self.pool.vm_snapshots.take(self.volumes, ref, step(call)).need_unquiesce

    def uncut(self, ref: VmRef, call: Call) -> None:
        """See `Group.uncut`."""
        self.delete(ref, call)

    def check_revert(self, ref: VmRef, call: Call) -> None:  # noqa: ARG002 - its members cannot be asked for
        """See `Group.check_revert`."""
        _refuse_granted(self.pool, self.volumes, call)

    def revert(self, ref: VmRef, call: Call) -> None:
        """See `Group.revert`."""
        self.pool.vm_snapshots.revert(self.volumes, ref, step(call))

    def delete(self, ref: VmRef, call: Call) -> bool:
        """See `Group.delete`."""
        self.pool.vm_snapshots.delete(self.volumes, ref, step(call))
        return True


@dataclass(frozen=True, slots=True)
class VolumeGroup(Group):
    """Volumes on a storage that knows nothing of VMs."""

    pool: Pool
    volumes: Sequence[VolumeId]
    one_shot = False

    def cut(self, ref: VmRef, call: Call) -> bool:
        """See `Group.cut`; the storage thaws no guest, so somebody must."""
        for volume in self.volumes:
            self.pool.snapshots.create(volume, member_id(ref, volume), step(call))
        return True

    def uncut(self, ref: VmRef, call: Call) -> None:
        """See `Group.uncut`."""
        self.delete(ref, call)

    def check_revert(self, ref: VmRef, call: Call) -> None:
        """See `Group.check_revert`."""
        _refuse_granted(self.pool, self.volumes, call)
        for volume in self.volumes:
            if self.pool.snapshots.get(member_id(ref, volume), step(call)).volume != volume:
                raise NotFound(f"the snapshot of volume {volume} in VM snapshot {ref.snapshot} is gone")

    def revert(self, ref: VmRef, call: Call) -> None:
        """See `Group.revert`."""
        for volume in self.volumes:
            self.pool.volumes.revert(volume, member_id(ref, volume), step(call))

    def delete(self, ref: VmRef, call: Call) -> bool:
        """See `Group.delete`."""
        for volume in self.volumes:
            self.pool.snapshots.delete(member_id(ref, volume), step(call))
        return True


@dataclass(frozen=True, slots=True)
class FileGroup(Group):
    """All volumes of a VM that are files."""

    chain: Chain
    one_shot = True

    def cut(self, ref: VmRef, call: Call) -> bool:  # noqa: ARG002 - the chain knows its snapshot
        """See `Group.cut`; the guest is frozen already, so the hypervisor must not do it again."""
        self.chain.cut(call, quiesce=False)
        return True

    def uncut(self, ref: VmRef, call: Call) -> None:  # noqa: ARG002 - as in `cut`
        """See `Group.uncut`."""
        self.chain.uncut()

    def check_revert(self, ref: VmRef, call: Call) -> None:
        """See `Group.check_revert`: switching is all or nothing by itself."""

    def revert(self, ref: VmRef, call: Call) -> None:  # noqa: ARG002 - as in `cut`
        """See `Group.revert`."""
        self.chain.revert()

    def delete(self, ref: VmRef, call: Call) -> bool:  # noqa: ARG002 - as in `cut`
        """See `Group.delete`."""
        return self.chain.delete()


def member_id(ref: VmRef, volume: VolumeId) -> SnapshotId:
    """Return the id of a volume's snapshot within a VM snapshot: the same after any restart."""
    digest = hashlib.sha256(f"{ref.vm}/{ref.snapshot}/{volume}".encode()).hexdigest()
    return SnapshotId(f"vms-{digest[:32]}")


def kind_on(pool: Pool, *, running: bool, overlays: bool) -> MemberKind | None:
    """Return who would keep a volume of this pool, or None if nobody can."""
    able = pool.capabilities().native
    if pool.managed and Capability.VM_SNAPSHOTS in able:
        return MemberKind.POOL
    if not pool.managed and overlays:
        return MemberKind.FILE
    by_volume = {Capability.SNAPSHOTS, Capability.REVERT} <= able
    # A file pool copies, which takes long: too long for a guest that stands still meanwhile.
    if by_volume and (not running or (pool.managed and pool.traits.snapshot_while_attached)):
        return MemberKind.VOLUME
    return None


def groups_of(members: Sequence[Member], pools: dict[str, Pool], chain: Chain) -> list[Group]:
    """Return the groups of a snapshot; the files last, since switching them can fail least."""
    groups: list[Group] = []
    for kind, make in ((MemberKind.POOL, PoolGroup), (MemberKind.VOLUME, VolumeGroup)):
        mine = [member for member in members if member.kind is kind]
        groups += [
            make(pools[name], [member.volume for member in mine if member.pool == name])
            for name in sorted({member.pool for member in mine})
        ]
    if any(m.kind is MemberKind.FILE for m in members):
        groups.append(FileGroup(chain))
    return groups


def _refuse_granted(pool: Pool, volumes: Sequence[VolumeId], call: Call) -> None:
    if not pool.managed or pool.traits.revert_while_attached:
        return
    for volume in volumes:
        if pool.volumes.grants(volume, step(call)):
            raise InUse(f"volume {volume} is granted to a host: stopping the VM must take that away")
