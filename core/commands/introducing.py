"""Objects that a host is to know, and to know no more. Introduce verifies, forget never deletes.

    introduce   look it up on its pool ─ compare the size ─> grant (managed) ─> the host looks: identity, size
    forget      the host lets go of it ─> revoke (managed); the data stay

What a kill leaves between two of these steps is finished by the same command again, or undone by the other.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from ...transfer_objects.ids import VolumeId
from ...transfer_objects.objects import DataTO, SnapshotObjectTO, TemplateObjectTO, VolumeObjectTO
from ..pool import Pool
from ..site import Site
from ..spi import (
    Call,
    Conflict,
    FileLocation,
    Host,
    Introduced,
    Introduction,
    Location,
    NotFound,
    ObjectKind,
    StorageError,
    Unsupported,
)
from ..steps import step
from ..vm_snapshots.hypervisor import Hypervisor
from .names import snapshot_id, template_id, volume_id
from .storages import pool_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """An object on its pool, as a host is to find it.

    Attributes:
        grantee: the volume that access is granted to, on managed storage.
        locate: tells where it is, on a pool that hosts mount.
    """

    kind: ObjectKind
    object_id: str
    identity: str
    size: int
    grantee: VolumeId | None
    locate: Callable[[Call], Location]


def introduce(data: DataTO, site: Site, hypervisor: Hypervisor, call: Call) -> Introduced:
    """Make the hypervisor's host know an object; a repeat returns the same.

    Raises:
        NotFound: it is not on its pool.
        Conflict: it has another size than the command says; nothing was done.
        DataLoss: something else appeared on the host; it was taken out again.
    """
    pool, host = pool_of(site, data), site.host_for(hypervisor, step(call))
    known = look_up(data, pool, call)
    asked = getattr(data, "size", None)
    if asked is not None and asked != known.size:
        raise Conflict(f"{known.kind} {known.object_id} has {known.size} bytes, the command says {asked}")
    if known.grantee is None:
        return _introduce(known, host, known.locate(step(call)), hypervisor, call)
    before = any(grant.host == host.id for grant in pool.volumes.grants(known.grantee, step(call)))
    where = pool.volumes.grant(known.grantee, host, step(call))
    try:
        return _introduce(known, host, where, hypervisor, call)
    except StorageError:
        if not before:
            with suppress(StorageError):  # why it failed matters more; a repeat, or a forget, revokes it
                _let_go(known.kind, known.object_id, pool, known.grantee, host, hypervisor, call)
        raise


def _introduce(known: Known, host: Host, where: Location, hypervisor: Hypervisor, call: Call) -> Introduced:
    what = Introduction(
        kind=known.kind,
        object_id=known.object_id,
        host=host.id,
        location=where,
        identity=known.identity,
        size=known.size,
    )
    return hypervisor.run("object.introduce", lambda c: hypervisor.driver.introduce(what, c), step(call))


def forget(data: DataTO, site: Site, hypervisor: Hypervisor, call: Call) -> None:
    """Make the host forget an object; one that it does not know, or that is gone, is fine.

    Raises:
        InUse: a VM has it.
    """
    pool, host = pool_of(site, data), site.host_for(hypervisor, step(call))
    match data:
        case VolumeObjectTO():
            kind, object_id = ObjectKind.VOLUME, str(volume_id(data))
        case SnapshotObjectTO():
            kind, object_id = ObjectKind.SNAPSHOT, str(snapshot_id(data))
        case TemplateObjectTO():
            kind, object_id = ObjectKind.TEMPLATE, str(template_id(data))
    grantee = VolumeId(object_id) if pool.managed and kind is not ObjectKind.SNAPSHOT else None
    _let_go(kind, object_id, pool, grantee, host, hypervisor, call)


def _let_go(
    kind: ObjectKind,
    object_id: str,
    pool: Pool,
    grantee: VolumeId | None,
    host: Host,
    hypervisor: Hypervisor,
    call: Call,
) -> None:
    """Take an object out of a host, and then the host's access away: never the other way round."""
    hypervisor.run(
        "object.forget", lambda c: hypervisor.driver.forget(kind, object_id, host.id, c), step(call)
    )
    if grantee is not None:
        with suppress(NotFound):  # the volume is gone, and its grants with it
            pool.volumes.revoke(grantee, host.id, step(call))


def look_up(data: DataTO, pool: Pool, call: Call) -> Known:
    """Return an object as it is on its pool.

    Raises:
        NotFound: it is not there.
        Unsupported: the pool cannot show such an object to a host.
    """
    match data:
        case VolumeObjectTO():
            return _volume(ObjectKind.VOLUME, volume_id(data), pool, call)
        case TemplateObjectTO():
            return _volume(ObjectKind.TEMPLATE, VolumeId(template_id(data)), pool, call)
        case SnapshotObjectTO():
            return _snapshot(data, pool, call)


def _volume(kind: ObjectKind, volume: VolumeId, pool: Pool, call: Call) -> Known:
    found = pool.volumes.get(volume, step(call))
    return Known(
        kind=kind,
        object_id=str(volume),
        identity=found.identity,
        size=found.size,
        grantee=volume if pool.managed else None,
        locate=lambda inner: pool.volumes.locate(volume, inner),
    )


def _snapshot(data: SnapshotObjectTO, pool: Pool, call: Call) -> Known:
    snapshot = pool.snapshots.get(snapshot_id(data), step(call))
    where = pool.snapshots.locate(snapshot.id, step(call))
    if not isinstance(where, FileLocation):
        raise Unsupported("only a snapshot that is a file has an identity that a host can check")
    return Known(
        kind=ObjectKind.SNAPSHOT,
        object_id=str(snapshot.id),
        identity=os.path.realpath(where.path),
        size=snapshot.size,
        grantee=None,
        locate=lambda _: where,
    )
