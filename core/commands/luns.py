"""What XenServer and VMware want of LUNs: a copy under another one, and identifiers of its own for a clone.

LUNs are named by their details there (`iqn`, `path`, `uuid` …); here they are volumes of managed pools.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ...transfer_objects.cloudstack.ids import native_id
from ...transfer_objects.commands import (
    ResignatureAnswer,
    ResignatureCommand,
    SnapshotAndCopyAnswer,
    SnapshotAndCopyCommand,
)
from ...transfer_objects.enums import HypervisorType, ImageFormat
from ...transfer_objects.ids import SnapshotId, StoreId, VolumeId
from ...transfer_objects.objects import VolumeObjectTO
from ...transfer_objects.secret import Secret
from ...transfer_objects.stores import PrimaryDataStoreTO
from ..pool import Pool
from ..site import Site
from ..spi import Call, InvalidArgument, NotFound, Volume, VolumeSpec
from ..steps import step
from .filling import copying, fill_volume, find_volume, reading_snapshot
from .introducing import forget, introduce
from .storages import given

_Details = Mapping[str, str | Secret]
_NAMES = ("uuid", "iqn", "managedStoreTarget", "scsiNaaDeviceId", "path")
_FORMATS = {HypervisorType.XEN_SERVER: ImageFormat.VHD, HypervisorType.VMWARE: ImageFormat.VMDK}


def snapshot_and_copy(command: SnapshotAndCopyCommand, site: Site, call: Call) -> SnapshotAndCopyAnswer:
    """Copy a volume as it is at one instant to the LUN that the destination's details name.

    The snapshot that it is read from has the destination's name: a repeat after a kill finds it, and removes
    it in the end.
    """
    pool, source = _named(site, given(command.source_vdi_uuid, "source"), call)
    other, target = _lun(site, given(command.destination_details, "details of the destination"), call)
    if target.size < source.size:
        raise InvalidArgument(f"LUN {target.id} is smaller than the source {source.id}")
    snapshot = SnapshotId(native_id(f"copy-to-{target.id}"))
    pool.snapshots.create(source.id, snapshot, step(call))
    with reading_snapshot(site, pool, snapshot) as content:
        spec = VolumeSpec(id=target.id, size=target.size)
        fill_volume(site, other, spec, source.size, copying(content, call), call)
    pool.snapshots.delete(snapshot, step(call))
    return SnapshotAndCopyAnswer(path=str(target.id))


def resignature(command: ResignatureCommand, site: Site, call: Call) -> ResignatureAnswer:
    """Show a cloned LUN to the host, which gives it identifiers of its own, and take it out again."""
    details = given(command.details, "details")
    pool, lun = _lun(site, details, call)
    hypervisor = site.hypervisor()
    backend = site.config.pools[pool.name]
    store = PrimaryDataStoreTO(uuid=StoreId((*backend.uuids, backend.name)[0]), managed=True)
    volume = VolumeObjectTO(uuid=lun.id, size=lun.size, data_store=store)
    introduced = introduce(volume, site, hypervisor, call)
    forget(volume, site, hypervisor, call)
    family = str(command.context.get("hypervisorType", ""))
    known = next((form for kind, form in _FORMATS.items() if kind.casefold() == family.casefold()), None)
    return ResignatureAnswer(size=lun.size, path=introduced.path, format=known or ImageFormat.RAW)


def _lun(site: Site, details: _Details, call: Call) -> tuple[Pool, Volume]:
    names = [value for key in _NAMES if isinstance(value := details.get(key), str) and value]
    if not names:
        raise InvalidArgument(f"the details name no LUN: one of {', '.join(_NAMES)} is needed")
    return _named(site, names[0], call)


def _named(site: Site, text: str, call: Call) -> tuple[Pool, Volume]:
    """Return the volume of a managed pool that has this id, identity or target.

    Raises:
        NotFound: none has it.
    """
    pools = [pool for name in site.config.pools if (pool := site.pool(name)).managed]
    for pool in pools:
        if (found := find_volume(pool, VolumeId(native_id(text)), call)) is not None:
            return pool, found
    bare = text.removeprefix("/").removesuffix("/0")
    for pool in pools:
        for volume in pool.volumes.list():
            if bare in _names_of(volume):
                return pool, volume
    raise NotFound(f"no managed pool has a LUN {text!r}")


def _names_of(volume: Volume) -> Iterator[str]:
    yield volume.identity
    yield from volume.private.values()
