"""Backups of simulated VMs: copies that a real qemu-nbd serves, with real dirty bitmaps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...core.spi import BackupDisk, Backups, Call, Checkpoint, InvalidArgument, NbdLocation
from ...transfer_objects.ids import ID_RULE, VmId, is_valid_id
from ...transfer_objects.secret import Secret
from .answers import Json, items, member
from .client import ClusterClient, path_of


class SimulatedBackups(Backups):
    """Points in time, and what has changed since checkpoints."""

    _client: ClusterClient

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
        for name in (checkpoint, since):
            if name is not None and not is_valid_id(name):
                raise InvalidArgument(f"checkpoint {name!r} is not valid: {ID_RULE}")
        body = {"device": device, "checkpoint": checkpoint, "since": since, "quiesce": quiesce}
        return _served(self._client.post(f"{path_of('vms', vm)}/backups", call, body))

    def end_backup(self, vm: VmId, device: str, call: Call, *, keep: bool) -> None:
        """See `Backups.end_backup`."""
        self._client.post(f"{path_of('vms', vm)}/backups/end", call, {"device": device, "keep": keep})

    def checkpoints(self, vm: VmId, call: Call) -> Sequence[Checkpoint]:
        """See `Backups.checkpoints`."""
        return [
            Checkpoint(
                name=member(one, "name", str),
                device=member(one, "device", str),
                text=member(one, "text", str),
            )
            for one in items(self._client.get(f"{path_of('vms', vm)}/checkpoints", call))
        ]

    def restore_checkpoints(self, vm: VmId, checkpoints: Sequence[Checkpoint], call: Call) -> Sequence[str]:
        """See `Backups.restore_checkpoints`."""
        told = [{"name": one.name, "device": one.device, "text": one.text} for one in checkpoints]
        answer = self._client.put(f"{path_of('vms', vm)}/checkpoints", call, {"checkpoints": told})
        return [str(name) for name in member(answer, "gone", list)]

    def delete_checkpoint(self, vm: VmId, device: str, name: str, call: Call) -> None:
        """See `Backups.delete_checkpoint`."""
        self._client.post(f"{path_of('vms', vm)}/checkpoints/delete", call, {"device": device, "name": name})


def _served(shown: Json) -> BackupDisk:
    bitmap = member(shown, "bitmap", str)
    return BackupDisk(
        location=NbdLocation(
            address=Path(member(shown, "socket", str)),
            export=Secret(member(shown, "export", str)),
            size=member(shown, "size", int),
            read_only=True,
        ),
        bitmap=f"qemu:dirty-bitmap:{bitmap}" if bitmap else "",
        frozen_seconds=member(shown, "frozen_s", float),
    )
