"""What an orchestrator may do with a VM that has snapshots, and what has to wait.

                    any snapshot    as files    while a task is under way
attach, detach      refused         refused     refused      a revert would bring back other disks
resize, migrate     refused         refused     refused      idem, of another size or at another place
volume snapshot     yes             refused     refused      the image that it is of is not written any more
revert a volume     refused         refused     refused      the others would stay behind
reinstall           refused         refused     refused      its root would be another volume
change offering     yes             yes         refused      a revert with memory brings the old one back
start               yes             yes         refused while Reverting
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from ...transfer_objects.ids import VmId
from ..spi import Busy, HasDependents, InUse
from .members import MemberKind
from .records import Records, VmSnapshot
from .states import ACTIVE, State


class Act(StrEnum):
    """What an orchestrator wants to do."""

    ATTACH = "attach a volume"
    DETACH = "detach a volume"
    RESIZE = "resize a volume"
    MIGRATE_VOLUME = "migrate a volume"
    SNAPSHOT_VOLUME = "snapshot a volume"
    REVERT_VOLUME = "revert a volume"
    REINSTALL = "reinstall the VM"
    CHANGE_OFFERING = "change the service offering"
    START = "start the VM"


_WITH_SNAPSHOTS = frozenset({Act.SNAPSHOT_VOLUME, Act.CHANGE_OFFERING, Act.START})


def check_act(records: Records, vm: VmId, act: Act) -> None:
    """Refuse what the VM's snapshots do not allow.

    Raises:
        Busy: a task of a snapshot is under way; try again.
        HasDependents: the snapshots must go first.
        InUse: the volume is a chain of images while there are snapshots as files.
    """
    snapshots = records.of_vm(vm)
    for one in snapshots:
        if one.state in ACTIVE and (act is not Act.START or one.state is State.REVERTING):
            raise Busy(f"cannot {act} now: snapshot {one.id} of VM {vm} is {one.state}")
    taken = [one for one in snapshots if one.taken]
    if taken and act not in _WITH_SNAPSHOTS:
        raise HasDependents(f"cannot {act}: VM {vm} has {len(taken)} VM snapshots, delete them first")
    if act is Act.SNAPSHOT_VOLUME and _as_files(taken):
        raise InUse(f"cannot {act}: VM {vm} has VM snapshots as files, delete them first")


def _as_files(snapshots: Sequence[VmSnapshot]) -> bool:
    return any(member.kind is MemberKind.FILE for one in snapshots for member in one.members)
