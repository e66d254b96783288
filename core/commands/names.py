"""What a transfer object means here: ids out of uuids, names, numbers and paths.

    volume      its uuid; else a path that is an id, as our answers give it
    snapshot    "<volume>/<snapshot>" as path (our answers); else "snap-<number>"; else its name
    template    its uuid; else a path that is an id
    VM          its name

    on a secondary store, whatever it is:  "archive/<volume>/<snapshot>" as path (our answers), else

    snapshot    archived under its volume and itself      volume    under itself and "volume-copy";
                                                                    a copy as the destination says
    template    under itself and "template"

Nothing is random: the same command again means the same objects. CloudStack's names of snapshots are people's
and repeat; its numbers do not.
"""

from __future__ import annotations

from typing import NamedTuple

from ...transfer_objects.cloudstack.ids import native_id
from ...transfer_objects.ids import SnapshotId, TemplateId, VmId, VmSnapshotId, VolumeId, is_valid_id
from ...transfer_objects.objects import (
    DataTO,
    SnapshotObjectTO,
    TemplateObjectTO,
    VMSnapshotTO,
    VolumeObjectTO,
)
from ..spi import InvalidArgument

VOLUME_COPY = SnapshotId("volume-copy")
TEMPLATE = SnapshotId("template")
_ARCHIVE = "archive"


class Archived(NamedTuple):
    """Where something lies in an archive."""

    volume: VolumeId
    snapshot: SnapshotId

    @property
    def path(self) -> str:
        """The path that answers give it."""
        return f"{_ARCHIVE}/{self.volume}/{self.snapshot}"


def volume_id(volume: VolumeObjectTO | None) -> VolumeId:
    """Return the id of a volume.

    Raises:
        InvalidArgument: neither uuid nor path tells it.
    """
    if volume is not None and volume.uuid:
        return volume.uuid
    if volume is not None and volume.path and is_valid_id(volume.path):
        return VolumeId(volume.path)
    raise InvalidArgument("the command names no volume: a volume needs a uuid")


def snapshot_id(snapshot: SnapshotObjectTO) -> SnapshotId:
    """Return the id of a snapshot on its pool.

    Raises:
        InvalidArgument: nothing tells it.
    """
    head, _, last = (snapshot.path or "").rpartition("/")
    if is_valid_id(head) and is_valid_id(last):
        return SnapshotId(last)
    if snapshot.id:
        return SnapshotId(f"snap-{snapshot.id}")
    if snapshot.name:
        return SnapshotId(native_id(snapshot.name))
    raise InvalidArgument("the command names no snapshot: it needs an id or a name")


def snapshot_path(volume: VolumeId, snapshot: SnapshotId) -> str:
    """Return the path that answers give a snapshot on a pool."""
    return f"{volume}/{snapshot}"


def template_id(template: TemplateObjectTO) -> TemplateId:
    """Return the id of a template.

    Raises:
        InvalidArgument: neither uuid nor path tells it.
    """
    if template.uuid:
        return template.uuid
    if template.path and is_valid_id(template.path):
        return TemplateId(template.path)
    raise InvalidArgument("the command names no template: a template needs a uuid")


def archived(data: DataTO) -> Archived:
    """Return where an object lies in the archive of its store, or will."""
    head, _, rest = (data.path or "").partition("/")
    volume, _, snapshot = rest.partition("/")
    if head == _ARCHIVE and is_valid_id(volume) and is_valid_id(snapshot):
        return Archived(VolumeId(volume), SnapshotId(snapshot))
    match data:
        case SnapshotObjectTO():
            return Archived(volume_id(data.volume), snapshot_id(data))
        case VolumeObjectTO():
            return Archived(volume_id(data), VOLUME_COPY)
        case TemplateObjectTO():
            return Archived(VolumeId(template_id(data)), TEMPLATE)


def vm_id(name: str | None) -> VmId:
    """Return the id of a VM by its name, which may be any text ("i-2-12-VM").

    Raises:
        InvalidArgument: the command names none.
    """
    if not name:
        raise InvalidArgument("the command names no VM")
    return VmId(native_id(name))


def vm_snapshot_id(snapshot: VMSnapshotTO | None) -> VmSnapshotId:
    """Return the id of a VM snapshot.

    Raises:
        InvalidArgument: the command names none.
    """
    if snapshot is None:
        raise InvalidArgument("the command names no VM snapshot")
    return VmSnapshotId(native_id(snapshot.snapshot_name))
