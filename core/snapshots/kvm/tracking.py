"""Who tracks what changes in a volume, and shows it at one instant.

    VmTracker      the hypervisor, while a VM has the volume, running or stopped
    ImageTracker   we ourselves, while no VM has it

    image    bitmap added ── qemu-nbd, a child of ours, with a lock ══ read ══ its end
             nobody writes: whoever attaches it and starts the VM meanwhile is refused by QEMU's lock

The bitmap is there a moment before the lock. A VM that came and went between is no harm: what it wrote is
in the snapshot, in the bitmap of its parent, and marked once too often for the next one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ....transfer_objects.ids import VmId
from ....transfer_objects.secret import Secret
from ...dataplane import BlockSource, NbdSource, QemuNbd, dirty_extents, open_source
from ...dataplane.nbd_bitmap import marked
from ...dataplane.qcow2_chain import serve_chain
from ...dataplane.qemu_img import image_info, run_qemu_img
from ...spi.call import Call
from ...spi.errors import Conflict, InvalidArgument, NotFound, Outcome, Unavailable
from ...spi.hypervisor_mixins import BackupDisk, Backups, Checkpoint
from ...spi.model import Extent

_NO_NAME = Secret("")


@dataclass(frozen=True, slots=True)
class Disk:
    """Where a volume is attached."""

    vm: VmId
    device: str


class Cut(Protocol):
    """A volume at one instant."""

    @property
    def frozen_seconds(self) -> float:
        """For how long its guest stood still for it; 0 if it was not frozen."""

    def open(self) -> BlockSource:
        """Open it for reading."""

    def dirty(self) -> AbstractContextManager[Iterator[Extent]]:
        """Yield what has changed since the base, sorted; while it is open."""


class Tracker(Protocol):
    """What is asked of whoever tracks a volume; `Backups` says more about each."""

    def begin(self, checkpoint: str, since: str | None, call: Call, *, quiesce: bool) -> Cut:
        """Cut now; the checkpoint begins at that instant. Raises as `Backups.begin_backup`."""

    def end(self, checkpoint: str, call: Call, *, keep: bool) -> None:
        """The cut is not needed any more; its checkpoint stays if it is to be kept. Repeatable."""

    def checkpoints(self, call: Call) -> Sequence[Checkpoint]:
        """Return those of the volume whose bitmaps are whole."""

    def restore(self, name: str, text: str, call: Call) -> bool:
        """Make a checkpoint known again; tell whether its bitmap is whole."""

    def delete(self, name: str, call: Call) -> None:
        """Take a checkpoint away with its bitmap. Repeatable."""


@dataclass(frozen=True, slots=True)
class _VmCut:
    backup: BackupDisk

    @property
    def frozen_seconds(self) -> float:
        return self.backup.frozen_seconds

    def open(self) -> BlockSource:
        return open_source(self.backup.location)

    def dirty(self) -> AbstractContextManager[Iterator[Extent]]:
        return dirty_extents(self.backup.location, self.backup.bitmap)


@dataclass(frozen=True, slots=True)
class VmTracker:
    """The hypervisor, for the disk of a VM; see `Tracker`."""

    backups: Backups
    disk: Disk

    def begin(self, checkpoint: str, since: str | None, call: Call, *, quiesce: bool) -> Cut:
        """See `Tracker.begin`."""
        vm, device = self.disk.vm, self.disk.device
        served = self.backups.begin_backup(
            vm, device, call, checkpoint=checkpoint, since=since, quiesce=quiesce
        )
        return _VmCut(served)

    def end(self, checkpoint: str, call: Call, *, keep: bool) -> None:  # noqa: ARG002 - the image's wants it
        """See `Tracker.end`."""
        self.backups.end_backup(self.disk.vm, self.disk.device, call, keep=keep)

    def checkpoints(self, call: Call) -> Sequence[Checkpoint]:
        """See `Tracker.checkpoints`."""
        found = self.backups.checkpoints(self.disk.vm, call)
        return [one for one in found if one.device == self.disk.device]

    def restore(self, name: str, text: str, call: Call) -> bool:
        """See `Tracker.restore`."""
        saved = Checkpoint(name=name, device=self.disk.device, text=text)
        return not self.backups.restore_checkpoints(self.disk.vm, [saved], call)

    def delete(self, name: str, call: Call) -> None:
        """See `Tracker.delete`."""
        self.backups.delete_checkpoint(self.disk.vm, self.disk.device, name, call)


@dataclass(slots=True)
class _ImageCut:
    chain: Sequence[Path]
    since: str | None
    frozen_seconds: float = field(default=0.0, init=False)
    _server: QemuNbd | None = field(default=None, init=False)

    def open(self) -> BlockSource:
        bitmap = [f"--bitmap={self.since}"] if self.since else []
        self._server = serve_chain(self.chain, ["--read-only", *bitmap])
        try:
            return NbdSource(self._server, _NO_NAME)
        except Unavailable as error:
            raise self._server.explain(error) from error

    def dirty(self) -> AbstractContextManager[Iterator[Extent]]:
        if self._server is None:
            raise InvalidArgument("a cut that is not open shows no changes")
        return marked(self._server, _NO_NAME, f"qemu:dirty-bitmap:{self.since}")


@dataclass(frozen=True, slots=True)
class ImageTracker:
    """A volume that no VM has; see `Tracker`.

    Attributes:
        chain: its qcow2 files from the one that is written to the base, as the records have them: what a
            header names is compared with that and never followed.
    """

    chain: Sequence[Path]

    def begin(self, checkpoint: str, since: str | None, call: Call, *, quiesce: bool) -> Cut:  # noqa: ARG002 - there is no guest
        """See `Tracker.begin`.

        Raises:
            InUse: a VM has the image open all the same (not applied).
        """
        bitmaps = self._bitmaps(call)
        if since is not None and not bitmaps.get(since):
            raise NotFound(f"{self.chain[0]} has no whole bitmap {since}; take a full")
        if checkpoint in bitmaps:
            raise Conflict(f"{self.chain[0]} has a bitmap {checkpoint} already")
        self._change("--add", checkpoint, call)
        return _ImageCut(self.chain, since)

    def end(self, checkpoint: str, call: Call, *, keep: bool) -> None:
        """See `Tracker.end`: its server is a child of whoever began it, and is gone with him."""
        if not keep:
            self.delete(checkpoint, call)

    def checkpoints(self, call: Call) -> Sequence[Checkpoint]:
        """See `Tracker.checkpoints`."""
        found = self._bitmaps(call).items()
        return [Checkpoint(name=name, device="", text="") for name, whole in found if whole]

    def restore(self, name: str, text: str, call: Call) -> bool:  # noqa: ARG002 - a bitmap needs no text
        """See `Tracker.restore`."""
        return self._bitmaps(call).get(name, False)

    def delete(self, name: str, call: Call) -> None:
        """See `Tracker.delete`; an image that is gone, with its volume, has no bitmap any more."""
        with suppress(NotFound):
            if name in self._bitmaps(call):
                self._change("--remove", name, call)

    def _bitmaps(self, call: Call) -> dict[str, bool]:
        """Return the names of the image's bitmaps, and whether each is whole."""
        data = image_info(self.chain[0].absolute(), "qcow2", call).get("format-specific", {}).get("data", {})
        return {one["name"]: "in-use" not in one["flags"] for one in data.get("bitmaps", ())}

    def _change(self, how: str, name: str, call: Call) -> None:
        file = {"driver": "file", "filename": str(self.chain[0].absolute())}
        alone = json.dumps({"driver": "qcow2", "file": file, "backing": None})  # no header is followed
        run_qemu_img(["bitmap", how, f"json:{alone}", name], call, outcome=Outcome.UNKNOWN)
