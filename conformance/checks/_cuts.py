"""What checks of backups and of checkpoints share: when a delta is sound."""

from __future__ import annotations

from ...core.spi import NotFound
from ...transfer_objects.ids import VmId
from ..backup_lab import BackupLab, Cut
from ..host_lab import HostLab
from ..lab import must, refused
from ._bytes import first_difference, patched


def must_be_sound(base: Cut, target: Cut, when: str) -> None:
    """Fail unless the delta turns the base into the target."""
    at = first_difference(patched(base.data, target.delta or (), target.data), target.data)
    must(at is None, f"DATA LOSS {when}: base + delta differs from the disk at byte {at}")


def must_be_lost_or_sound(backups: BackupLab, base: Cut, when: str) -> None:
    """Fail unless the base's checkpoint is gone, and says so, or still tells everything."""
    if base.checkpoint not in backups.known():
        with refused(NotFound):
            backups.begin(base.checkpoint)
        return
    must_be_sound(base, backups.take(base), when)


def each_vm(lab: HostLab) -> tuple[VmId, VmId]:
    """Return the one that is off, and the one that runs."""
    return lab.place.stopped_vm, lab.place.vm
