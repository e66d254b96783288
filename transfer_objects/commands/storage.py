"""Orders about one volume, snapshot or template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..details import Details
from ..enums import ImageFormat
from ..objects import DataTO, DiskTO, SnapshotObjectTO
from ..rules import Int64, Label, Path
from ..secret import Secret
from .base import Answer, Command

_Details = Mapping[str, str | Secret]


@dataclass(frozen=True, slots=True, kw_only=True)
class IntroduceObjectCmd(Command):
    """Make a hypervisor know an object that lies on storage already."""

    data: DataTO | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IntroduceObjectAnswer(Answer):
    """Answers IntroduceObjectCmd and ForgetObjectCmd: the object as the hypervisor sees it."""

    data: DataTO | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetObjectCmd(Command):
    """Make a hypervisor forget an object; its data stays."""

    data: DataTO | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyCommand(Command):
    """Copy a volume, snapshot or template; source and destination say which way.

    Attributes:
        cache: where an object store's data is staged.
        source_options: how to reach the source (iqn, CHAP …), and words such as "fullSnapshot".
        destination_options: the same of the destination.
    """

    source: DataTO | None = None
    destination: DataTO | None = None
    cache: DataTO | None = None
    execute_in_sequence: bool = False
    source_options: _Details = Details()
    destination_options: _Details = Details()


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyCmdAnswer(Answer):
    """Answers CopyCommand: the copy."""

    new_data: DataTO | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateObjectCommand(Command):
    """Create a volume or take a snapshot."""

    data: DataTO | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateObjectAnswer(Answer):
    """Answers CreateObjectCommand: what was made."""

    data: DataTO | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteCommand(Command):
    """Delete a volume, snapshot or template."""

    data: DataTO | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachCommand(Command):
    """Attach a disk or an ISO to a VM.

    Attributes:
        controller_info: which controllers the guest has.
    """

    disk: DiskTO | None = None
    vm_name: Label | None = None
    in_sequence: bool = False
    forced: bool = False
    controller_info: _Details | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachAnswer(Answer):
    """Answers AttachCommand."""

    disk: DiskTO | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DettachCommand(Command):
    """Detach a disk or an ISO from a VM. The spelling is part of the protocol.

    Attributes:
        managed: the volume is a LUN of its own; the four fields below tell where.
        wait_detach_device: milliseconds to wait for the guest to let go.
    """

    disk: DiskTO | None = None
    vm_name: Label | None = None
    managed: bool = False
    iscsi_name: Label | None = None
    storage_host: Label | None = None
    storage_port: Int64 = 0
    params: _Details | None = None
    forced: bool = False
    wait_detach_device: Int64 = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DettachAnswer(Answer):
    """Answers DettachCommand."""

    disk: DiskTO | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DetachCommand(DettachCommand):
    """The same under the right spelling, which newer releases have beside the wrong one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetachAnswer(DettachAnswer):
    """Answers DetachCommand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevertSnapshotCommand(Command):
    """Put a volume back to a snapshot.

    Attributes:
        data: the snapshot on secondary storage.
        data_on_primary_storage: the same on primary storage, which is preferred where it exists.
    """

    data: SnapshotObjectTO | None = None
    data_on_primary_storage: SnapshotObjectTO | None = None
    execute_in_sequence: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotAndCopyCommand(Command):
    """Snapshot a VDI and copy it to another LUN (XenServer)."""

    source_vdi_uuid: Label | None = None
    source_details: _Details | None = None
    destination_details: _Details | None = None
    execute_in_sequence: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotAndCopyAnswer(Answer):
    """Answers SnapshotAndCopyCommand: the new VDI's uuid as `path`."""

    path: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResignatureCommand(Command):
    """Give a cloned LUN identifiers of its own (XenServer, VMware)."""

    details: _Details | None = None
    execute_in_sequence: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ResignatureAnswer(Answer):
    """Answers ResignatureCommand: what lies on the LUN. `size` in bytes."""

    size: Int64 = 0
    path: Path | None = None
    format: ImageFormat | None = None
