"""What a check of backups works with: one disk of a VM, its cuts, and what they leave behind.

    begin ──> export: bytes, and what has changed ──> end (keep) ──> checkpoint ──> begin (since) …

Bytes and bitmap are read over NBD alone, as core reads them: nothing is believed that a driver says of them.
All backups are ended and all checkpoints taken away at the end, before the disk leaves its VM.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Self, cast

from ..core.dataplane import open_source
from ..core.dataplane.nbd_bitmap import dirty_extents
from ..core.spi import BackupDisk, Backups, Extent, StorageError, Unsupported
from ..transfer_objects.ids import VmId, new_id
from .host_lab import HostLab
from .host_objects import TestObject
from .lab import must, not_applicable


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """One point in time as it was read.

    Attributes:
        checkpoint: that began at it.
        data: all bytes.
        delta: what is said to have changed since the base; None for a full.
    """

    checkpoint: str
    data: bytes
    delta: tuple[Extent, ...] | None


@dataclass(slots=True, kw_only=True)
class BackupLab:
    """One disk that is backed up.

    Attributes:
        disk: what it is; a check may write to it while no running VM has it.
    """

    lab: HostLab
    vm: VmId
    device: str
    disk: TestObject
    _begun: list[str] = field(default_factory=list)

    @classmethod
    @contextmanager
    def open(cls, lab: HostLab, vm: VmId) -> Iterator[Self]:
        """Give a VM a disk; all that its backups leave is taken away at the end."""
        ((device, disk),) = lab.attached(vm, 1).items()
        opened = cls(lab=lab, vm=vm, device=device, disk=disk)
        try:
            yield opened
        except BaseException:
            # What went wrong first is what is told; what is left then the ledger has.
            with suppress(StorageError):
                opened.clear()
            raise
        opened.clear()

    @property
    def driver(self) -> Backups:
        """The driver."""
        return cast("Backups", self.lab.driver)

    def name(self) -> str:
        """Return a name for a checkpoint; it is taken away at the end."""
        self._begun.append(new_id(self.lab.prefix)[:64])
        return self._begun[-1]

    def begin(
        self, since: str | None = None, *, checkpoint: str | None = None, quiesce: bool = False
    ) -> BackupDisk:
        """Begin a backup; not applicable where such a disk cannot be backed up."""
        try:
            return self.driver.begin_backup(
                self.vm,
                self.device,
                self.lab.call(),
                checkpoint=checkpoint or self.name(),
                since=since,
                quiesce=quiesce,
            )
        except Unsupported as error:
            not_applicable(f"the driver cannot back up {self.disk.format} files: {error.message}")

    def end(self, *, keep: bool = True) -> None:
        """End the backup."""
        self.driver.end_backup(self.vm, self.device, self.lab.call(), keep=keep)

    def take(self, since: Cut | None = None) -> Cut:
        """Begin, read everything, and end; the checkpoint stays."""
        name = self.name()
        shown = self.begin(since.checkpoint if since else None, checkpoint=name)
        cut = Cut(
            checkpoint=name,
            data=bytes_of(shown),
            delta=None if since is None else tuple(changed_in(shown)),
        )
        self.end()
        return cut

    def known(self) -> list[str]:
        """Return the disk's checkpoints that count."""
        told = self.driver.checkpoints(self.vm, self.lab.call())
        return [one.name for one in told if one.device == self.device]

    def delete(self, checkpoint: str) -> None:
        """Take a checkpoint away."""
        self.driver.delete_checkpoint(self.vm, self.device, checkpoint, self.lab.call())

    def guest_writes(self) -> None:
        """Wait until the guest has written to the disk."""
        must(self.lab.guest_writes(self.disk), "the guest does not write to the disk")

    def clear(self) -> None:
        """End what runs, and take all checkpoints away, the newest first; repeatable."""
        self.end(keep=False)
        for name in reversed(self._begun):
            self.delete(name)


def bytes_of(shown: BackupDisk) -> bytes:
    """Return every byte of what is served."""
    with open_source(shown.location) as source:
        data = bytearray(source.size)
        source.read_into(0, memoryview(data))
    return bytes(data)


def changed_in(shown: BackupDisk) -> Sequence[Extent]:
    """Return what the bitmap says."""
    with dirty_extents(shown.location, shown.bitmap) as extents:
        return list(extents)
