"""What a VM snapshot consists of: one member per disk, and who keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ...transfer_objects.ids import VolumeId
from ..spi import FileLocation


class MemberKind(StrEnum):
    """Who keeps a member.

    POOL      the storage, all volumes of it together (`VmSnapshots`)
    VOLUME    the storage, one by one (`Snapshots`)
    FILE      an image of a chain, with the guest writing above it (`Overlays`)
    HYPERVISOR  the hypervisor
    """

    POOL = "pool"
    VOLUME = "volume"
    FILE = "file"
    HYPERVISOR = "hypervisor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One disk in a VM snapshot.

    Attributes:
        device: as the hypervisor calls it.
        pool: name of the volume's pool.
        image: of kind FILE: the image that holds the instant.
        volume_snapshot: id of the volume snapshot that was made of it, "" without; there is one at most.
    """

    device: str
    volume: VolumeId
    kind: MemberKind
    pool: str
    image: FileLocation | None = None
    volume_snapshot: str = ""

    @staticmethod
    def location(path: str, form: str) -> FileLocation:
        """Return a location as it was recorded."""
        return FileLocation(path=Path(path), format="qcow2" if form == "qcow2" else "raw")
