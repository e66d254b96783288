"""VM snapshots: by `VmSnapshotSync`, which thaws the guest first and goes through all of a VM's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ...transfer_objects.ids import VmId
from ..access import Mover
from ..intents import Intents
from ..mover import state_directory
from ..spi import Call
from ..vm_snapshots import VmLocks, VmSnapshotSync
from .snapshots_claims import claimed
from .sync import Ended, Task


class FleetVmLocks(VmLocks):
    """One task per VM at a time, among all processes that share a journal.

    Args:
        directory: of this machine; processes that know nothing of the journal are kept out by it.
    """

    def __init__(self, directory: Path, journal: Intents) -> None:
        super().__init__(directory)
        self._journal = journal

    @contextmanager
    def task(self, vm: VmId) -> Iterator[None]:
        """See `VmLocks.task`."""
        with super().task(vm), claimed(self._journal, "vm", vm):
            yield


def fleet_vm_locks(mover: Mover) -> FleetVmLocks:
    """Return the locks of a machine: whoever begins a task of VM snapshots holds its VM by them."""
    return FleetVmLocks(state_directory() / "vm-locks", mover.journal)


@dataclass(frozen=True, slots=True, kw_only=True)
class VmSnapshotKind:
    """Ends what is left of VM snapshots; `vms_of` returns the VMs of a host."""

    sync: VmSnapshotSync
    vms_of: Callable[[str], Sequence[str]]

    def unfinished(self, *, vm: str, host: str) -> Iterator[Task]:
        """See `Kind.unfinished`; a VM that a living process works on is found busy when its turn comes."""
        wanted = {vm} if vm else set(self.vms_of(host)) if host else None
        for one in self.sync.manager.records.unfinished():
            if wanted is None or one in wanted:
                end = partial(self._end, one)
                yield Task(kind="vm_snapshots", id=one, group=f"vm {one}", what="unfinished", end=end)

    def _end(self, vm: VmId, call: Call) -> Sequence[Ended]:
        return [
            Ended(kind="vm_snapshot", id=one.snapshot, before=one.before, after=one.after, problem=one.error)
            for one in self.sync.vm(vm, call)
        ]
