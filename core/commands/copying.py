"""CopyCommand: which of its rows a command is.

    from                     to                          what is done
    TEMPLATE on secondary    a pool                      template_to_pool
    TEMPLATE on a pool       VOLUME on that pool         clone_template
    VOLUME on secondary      VOLUME on a pool            archived_to_volume
    VOLUME on a pool         VOLUME on a pool            volume_to_volume
    VOLUME on a pool         VOLUME on secondary         volume_to_store
    VOLUME                   TEMPLATE on secondary       to_template
    SNAPSHOT on a pool       SNAPSHOT on secondary       back_up
    SNAPSHOT                 VOLUME on a pool            snapshot_to_volume
    SNAPSHOT                 TEMPLATE on secondary       to_template
    the same on secondary    on another secondary        store_to_store
    anything else                                        Unsupported

CloudStack's rows, and the last but one: there the secondary storage VM does that. `cacheTO` is not needed:
object stores are read and written directly.
"""

from __future__ import annotations

from ...transfer_objects.commands import CopyCmdAnswer, CopyCommand
from ...transfer_objects.objects import DataTO, SnapshotObjectTO, TemplateObjectTO, VolumeObjectTO
from ..site import Site
from ..spi import Call, Unsupported
from .copy_to_pool import (
    archived_to_volume,
    clone_template,
    snapshot_to_volume,
    template_to_pool,
    volume_to_volume,
)
from .copy_to_store import back_up, store_to_store, to_template, volume_to_store
from .storages import object_of, on_primary

_FULL = "fullSnapshot"
_TO_SECONDARY = "snapshot.backup.to.secondary"
_TYPE = "typeDescription"


def copy_object(command: CopyCommand, site: Site, call: Call) -> CopyCmdAnswer:
    """Carry out the row that the command is."""
    source = object_of(command.source, "source")
    to = object_of(command.destination, "destination")
    match source, on_primary(source), to, on_primary(to):
        case TemplateObjectTO(), False, _, True:
            return template_to_pool(source, to, site, call)
        case TemplateObjectTO(), True, _, True:
            return clone_template(source, to, site, call)
        case VolumeObjectTO(), False, VolumeObjectTO(), True:
            return archived_to_volume(source, to, site, call)
        case VolumeObjectTO(), True, VolumeObjectTO(), True:
            return volume_to_volume(source, to, site, call)
        case VolumeObjectTO(), True, VolumeObjectTO(), False:
            return volume_to_store(source, to, site, call)
        case SnapshotObjectTO(), True, SnapshotObjectTO(), False:
            return _back_up(command, source, to, site, call)
        case SnapshotObjectTO(), _, VolumeObjectTO(), True:
            return snapshot_to_volume(source, to, site, call)
        case ((SnapshotObjectTO() | VolumeObjectTO()), _, TemplateObjectTO(), False):
            return to_template(source, to, site, call)
        case _, False, _, False if type(source) is type(to):
            return store_to_store(source, to, site, call)
    raise Unsupported(f"copying is not implemented from {_told(source)} to {_told(to)}")


def _back_up(
    command: CopyCommand, source: SnapshotObjectTO, to: SnapshotObjectTO, site: Site, call: Call
) -> CopyCmdAnswer:
    options = command.source_options
    stays = options.get(_TO_SECONDARY) == "false" or _TYPE in options
    return back_up(source, to, site, call, full=options.get(_FULL) == "true", temporary=stays)


def _told(data: DataTO) -> str:
    return f"{data.object_type} on {'primary' if on_primary(data) else 'secondary'} storage"
