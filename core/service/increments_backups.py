"""A hypervisor's backups as core calls a driver: opened when first needed, with retry and redaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from ...transfer_objects.ids import VmId
from ..plugins import PluginError
from ..spi import BackupDisk, Backups, Call, Checkpoint, Internal, Outcome
from ..vm_snapshots.hypervisor import Hypervisor

T = TypeVar("T")


class HypervisorBackups(Backups):
    """See `Backups`; each method raises as well what opening the hypervisor does.

    Args:
        opened: returns the hypervisor, which is its owner's to close.
    """

    def __init__(self, opened: Callable[[], Hypervisor]) -> None:
        self._opened = opened

    def begin_backup(
        self,
        vm: VmId,
        device: str,
        call: Call,
        *,
        checkpoint: str,
        since: str | None = None,
        quiesce: bool = False,
    ) -> BackupDisk:
        """See `Backups.begin_backup`."""
        return self._run(
            "vm.backup.begin",
            lambda backups, c: backups.begin_backup(
                vm, device, c, checkpoint=checkpoint, since=since, quiesce=quiesce
            ),
            call,
        )

    def end_backup(self, vm: VmId, device: str, call: Call, *, keep: bool) -> None:
        """See `Backups.end_backup`."""
        self._run("vm.backup.end", lambda backups, c: backups.end_backup(vm, device, c, keep=keep), call)

    def checkpoints(self, vm: VmId, call: Call) -> Sequence[Checkpoint]:
        """See `Backups.checkpoints`."""
        return self._run("vm.checkpoints", lambda backups, c: backups.checkpoints(vm, c), call)

    def restore_checkpoints(self, vm: VmId, checkpoints: Sequence[Checkpoint], call: Call) -> Sequence[str]:
        """See `Backups.restore_checkpoints`."""
        return self._run(
            "vm.checkpoint.restore", lambda backups, c: backups.restore_checkpoints(vm, checkpoints, c), call
        )

    def delete_checkpoint(self, vm: VmId, device: str, name: str, call: Call) -> None:
        """See `Backups.delete_checkpoint`."""
        self._run(
            "vm.checkpoint.delete", lambda backups, c: backups.delete_checkpoint(vm, device, name, c), call
        )

    def _run(self, operation: str, act: Callable[[Backups, Call], T], call: Call) -> T:
        hypervisor = opened(self._opened)
        backups = hypervisor.require(Backups)
        return hypervisor.run(operation, lambda c: act(backups, c), call)


def opened(opener: Callable[[], Hypervisor]) -> Hypervisor:
    """Open a hypervisor; a driver that cannot be loaded is an error like any other, of this one alone."""
    try:
        return opener()
    except PluginError as error:
        raise Internal(str(error), outcome=Outcome.NOT_APPLIED) from error
