"""Words and small groups that only commands use."""

from __future__ import annotations

from dataclasses import dataclass

from ..base import TransferObject
from ..enums import WireEnum
from ..objects import DataTO, VolumeObjectTO
from ..rules import Int64, Path


class PowerState(WireEnum):
    """What a hypervisor reports of a VM."""

    ON = "PowerOn"
    OFF = "PowerOff"
    UNKNOWN = "PowerUnknown"
    REPORT_MISSING = "PowerReportMissing"


class VmState(WireEnum):
    """What the orchestrator holds a VM for."""

    STARTING = "Starting"
    RUNNING = "Running"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    DESTROYED = "Destroyed"
    EXPUNGING = "Expunging"
    MIGRATING = "Migrating"
    RESTORING = "Restoring"
    ERROR = "Error"
    UNKNOWN = "Unknown"
    SHUTDOWN = "Shutdown"


class FreezeOption(WireEnum):
    """What to do with the guest's file systems; the words of the guest agent's own status."""

    FREEZE = "frozen"
    THAW = "thawed"
    STATUS = "status"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVolumePath(TransferObject):
    """A volume and the file that it is to continue in once the snapshot is taken."""

    volume: VolumeObjectTO | None = None
    path: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSnapshot(TransferObject):
    """What a disk-only VM snapshot made of one volume.

    Attributes:
        size: bytes of the snapshot.
        path: the file that the volume continues in.
    """

    size: Int64 | None = None
    path: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeTree(TransferObject):
    """Files of which one is to be merged into another.

    Attributes:
        parent: the file that remains.
        child: the file that goes into it.
        grand_children: files that stand on the child and are to stand on the parent.
        volume: whose files they are (main branch).
    """

    volume: VolumeObjectTO | None = None
    parent: DataTO | None = None
    child: DataTO | None = None
    grand_children: tuple[DataTO, ...] = ()
