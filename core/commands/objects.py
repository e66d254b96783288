"""Create, delete, and revert to a snapshot."""

from __future__ import annotations

from ...transfer_objects.commands import (
    Answer,
    CreateObjectAnswer,
    CreateObjectCommand,
    DeleteCommand,
    RevertSnapshotCommand,
)
from ...transfer_objects.ids import SnapshotId, VolumeId
from ...transfer_objects.objects import DataTO, SnapshotObjectTO, TemplateObjectTO, VolumeObjectTO
from ..pool import Pool
from ..site import Site
from ..spi import Call, Capability, InUse, InvalidArgument, NotFound, Unsupported, VolumeSpec
from ..steps import step
from .copy_to_pool import restoring
from .filling import Fill, copying, fill_volume, reading_snapshot
from .guests import held_by, refuse_encryption
from .names import archived, snapshot_id, template_id, volume_id
from .snapshotting import take_snapshot
from .storages import archive_of, given, object_of, on_primary, pool_of
from .volumes import described


def create(command: CreateObjectCommand, site: Site, call: Call) -> CreateObjectAnswer:
    """Create a volume, or take a snapshot."""
    data = object_of(command.data)
    match data:
        case VolumeObjectTO():
            return CreateObjectAnswer(data=_create_volume(data, site, call))
        case SnapshotObjectTO():
            return CreateObjectAnswer(data=take_snapshot(data, site, call))
        case TemplateObjectTO():
            raise Unsupported("a template is not created but copied")


def _create_volume(data: VolumeObjectTO, site: Site, call: Call) -> VolumeObjectTO:
    refuse_encryption(data.requires_encryption)
    pool = pool_of(site, data)
    spec = VolumeSpec(id=volume_id(data), size=given(data.size, "size"), name=data.name or "")
    return described(data, pool, pool.volumes.create(spec, step(call)))


def delete(command: DeleteCommand, site: Site, call: Call) -> Answer:
    """Delete an object, from its pool or its archive; what is not there is fine.

    Raises:
        InUse: a VM has the volume; where hosts mount the pool that is known of the VM alone that is named.
    """
    data = object_of(command.data)
    if on_primary(data):
        _delete_from_pool(data, site, pool_of(site, data), call)
    else:
        place = archived(data)
        archive_of(site, data).delete(call, volume=place.volume, snapshot=place.snapshot)
    return Answer()


def _delete_from_pool(data: DataTO, site: Site, pool: Pool, call: Call) -> None:
    match data:
        case VolumeObjectTO():
            if (disk := held_by(site, data.vm_name, volume_id(data), call)) is not None:
                raise InUse(f"volume {volume_id(data)} is disk {disk.device} of VM {data.vm_name}")
            pool.volumes.delete(volume_id(data), step(call))
        case SnapshotObjectTO():
            pool.snapshots.delete(snapshot_id(data), step(call))
        case TemplateObjectTO():
            if Capability.TEMPLATE_CACHE in pool.capabilities().native:
                pool.volumes.evict_template(template_id(data), step(call))
            else:
                pool.volumes.delete(VolumeId(template_id(data)), step(call))


def revert(command: RevertSnapshotCommand, site: Site, call: Call) -> Answer:
    """Put a volume back to a snapshot: to that on its pool, if it is there, else to the archived one.

    A volume that is overwritten from the archive is whole again when the command has ended; one that a kill
    left half overwritten is so when the repeated command has.

    Raises:
        NotFound: the snapshot is neither here nor there.
        InUse: a VM has the volume.
    """
    primary, secondary = command.data_on_primary_storage, command.data
    wanted = given(primary or secondary, "snapshot")
    volume = given(wanted.volume, "volume of the snapshot")
    pool, target = pool_of(site, volume), volume_id(volume)
    snapshot = _on_pool(primary, pool, target, call) or _on_pool(secondary, pool, target, call)
    if snapshot is not None and Capability.REVERT in pool.capabilities().native:
        pool.volumes.revert(target, snapshot, step(call))
    elif snapshot is not None:
        with reading_snapshot(site, pool, snapshot) as content:
            _overwrite(site, pool, target, content.size, copying(content, call), call)
    elif secondary is not None and not on_primary(secondary):
        archive, place = archive_of(site, secondary), archived(secondary)
        _same_volume(place.snapshot, place.volume, target)
        size = archive.show(step(call), volume=place.volume, snapshot=place.snapshot).size
        _overwrite(site, pool, target, size, restoring(archive, place, call), call)
    else:
        raise NotFound(f"the snapshot of volume {target} is not on its pool")
    return Answer(details="RevertSnapshotCommand executes successfully")


def _on_pool(
    snapshot: SnapshotObjectTO | None, pool: Pool, volume: VolumeId, call: Call
) -> SnapshotId | None:
    """Return the id of a snapshot if the pool has it, of this volume."""
    if snapshot is None or not on_primary(snapshot):
        return None
    try:
        found = pool.snapshots.get(snapshot_id(snapshot), step(call))
    except (NotFound, Unsupported):
        return None
    _same_volume(found.id, found.volume, volume)
    return found.id


def _same_volume(snapshot: SnapshotId, of: VolumeId, wanted: VolumeId) -> None:
    if of != wanted:
        raise InvalidArgument(f"snapshot {snapshot} is of volume {of}, not of {wanted}")


def _overwrite(site: Site, pool: Pool, volume: VolumeId, least: int, fill: Fill, call: Call) -> None:
    present = pool.volumes.get(volume, step(call))
    fill_volume(site, pool, VolumeSpec(id=volume, size=present.size), least, fill, call)
