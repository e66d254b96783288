"""The operations of the SPI that change something, each ready to be done twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass

from ...core.dataplane import open_source
from ...core.pool import Pool
from ...core.spi import (
    Adopts,
    ClonesVolume,
    HasQos,
    Host,
    Qos,
    Resizes,
    Reverts,
    Snapshots,
    StorageError,
    TemplateCache,
    TemplateSpec,
    VmRef,
    VmSnapshots,
    Volume,
    VolumeFromSnapshot,
    VolumeSpec,
)
from ...transfer_objects.ids import SnapshotId, TemplateId, VmId, VmSnapshotId, VolumeId, new_id
from ..lab import MIB, Lab
from ..registry import PRIMARY

SIZE = 2 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One operation with its arguments.

    Attributes:
        act: does it on a pool.
        volumes: what it might change.
        mark: a host may write to the volume that it returns; a repeat keeps what was written.
    """

    act: Callable[[Pool], object]
    volumes: tuple[VolumeId, ...] = ()
    mark: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """An operation; `begin` prepares what it works on and cleans up what the ledger cannot."""

    name: str
    words: str
    begin: Callable[[Lab], AbstractContextManager[Attempt]]
    needs: tuple[type, ...] = ()
    kinds: tuple[str, ...] = PRIMARY
    field_bug: str = ""


def written(lab: Lab) -> Volume:
    """Return a new volume that holds generation 1."""
    volume = lab.volume(SIZE)
    lab.write(volume, 1)
    return volume


def spec(lab: Lab, size: int = SIZE) -> VolumeSpec:
    """Return the specification of a volume that is not there."""
    return VolumeSpec(id=lab.new_id(), size=size, name="bollard conformance")


def vm(lab: Lab) -> VmRef:
    """Return a VM snapshot that nobody has taken."""
    return VmRef(vm=VmId(new_id(lab.prefix)), snapshot=VmSnapshotId(new_id(lab.prefix)))


@contextmanager
def foreign(lab: Lab, size: int = SIZE) -> Iterator[tuple[str, VolumeId]]:
    """Yield the native name of an object that is not ours and holds generation 1, and whose data it has.

    Only by releasing a volume can a suite make such an object on any storage. It is taken over again and
    deleted at the end, under whatever id: the ledger cannot, for it knows no native names.
    """
    volume = lab.volume(size)
    lab.write(volume, 1)
    volumes = lab.pool.volumes
    native = volumes.release(volume.id)
    try:
        yield native, volume.id
    finally:
        for known in [v.id for v in volumes.list() if v.id.startswith(lab.prefix)]:
            if known != volume.id:
                _delete_if_possible(lab, known)
        with suppress(StorageError):  # it went with the volume that had adopted it
            volumes.adopt(native, VolumeSpec(id=volume.id, size=size))
        _delete_if_possible(lab, volume.id)


def _delete_if_possible(lab: Lab, volume: VolumeId) -> None:
    with suppress(StorageError):  # the leak audit tries again, and reports it
        lab.pool.volumes.delete(volume)


@contextmanager
def _create(lab: Lab) -> Iterator[Attempt]:
    wanted = spec(lab)
    yield Attempt(act=lambda pool: pool.volumes.create(wanted), mark=True)


@contextmanager
def _delete(lab: Lab) -> Iterator[Attempt]:
    volume = lab.volume(SIZE).id
    yield Attempt(act=lambda pool: pool.volumes.delete(volume), volumes=(volume,))


@contextmanager
def _resize(lab: Lab) -> Iterator[Attempt]:
    volume = written(lab).id
    yield Attempt(act=lambda pool: pool.volumes.resize(volume, 2 * SIZE), mark=True)


@contextmanager
def _clone(lab: Lab) -> Iterator[Attempt]:
    source, wanted = written(lab).id, spec(lab)
    yield Attempt(act=lambda pool: pool.volumes.clone(source, wanted), volumes=(source,), mark=True)


@contextmanager
def _snapshot(lab: Lab) -> Iterator[Attempt]:
    volume, wanted = written(lab).id, SnapshotId(new_id(lab.prefix))
    yield Attempt(act=lambda pool: pool.snapshots.create(volume, wanted), volumes=(volume,))


@contextmanager
def _delete_snapshot(lab: Lab) -> Iterator[Attempt]:
    volume = written(lab).id
    doomed, _ = lab.snapshot(volume).id, lab.snapshot(volume).id
    yield Attempt(act=lambda pool: pool.snapshots.delete(doomed), volumes=(volume,))


@contextmanager
def _from_snapshot(lab: Lab) -> Iterator[Attempt]:
    source = written(lab).id
    snapshot, wanted = lab.snapshot(source).id, spec(lab)
    yield Attempt(act=lambda pool: pool.volumes.from_snapshot(snapshot, wanted), volumes=(source,), mark=True)


@contextmanager
def _revert(lab: Lab) -> Iterator[Attempt]:
    volume = written(lab)
    snapshot = lab.snapshot(volume.id).id
    lab.write(volume, 2)
    yield Attempt(act=lambda pool: pool.volumes.revert(volume.id, snapshot), volumes=(volume.id,))


@contextmanager
def _set_qos(lab: Lab) -> Iterator[Attempt]:
    volume = lab.volume(SIZE).id
    yield Attempt(act=lambda pool: pool.volumes.set_qos(volume, Qos(max_iops=10_000)), volumes=(volume,))


@contextmanager
def _grant(lab: Lab) -> Iterator[Attempt]:
    volume, host = written(lab), lab.host()
    # Two answers need not be alike; each must lead to the volume.
    yield Attempt(act=lambda pool: _size_through_grant(pool, volume.id, host), volumes=(volume.id,))


def _size_through_grant(pool: Pool, volume: VolumeId, host: Host) -> int:
    with open_source(pool.volumes.grant(volume, host, read_only=True), timeout=10) as source:
        return source.size


@contextmanager
def _revoke(lab: Lab) -> Iterator[Attempt]:
    volume, host = written(lab).id, lab.host()
    lab.pool.volumes.grant(volume, host)
    yield Attempt(act=lambda pool: pool.volumes.revoke(volume, host.id), volumes=(volume,))


@contextmanager
def _adopt(lab: Lab) -> Iterator[Attempt]:
    with foreign(lab) as (native, _):
        wanted = spec(lab)
        yield Attempt(act=lambda pool: pool.volumes.adopt(native, wanted), mark=True)


@contextmanager
def _release(lab: Lab) -> Iterator[Attempt]:
    with foreign(lab) as (native, volume):
        lab.pool.volumes.adopt(native, VolumeSpec(id=volume, size=SIZE))
        yield Attempt(act=lambda pool: pool.volumes.release(volume), volumes=(volume,))


def _template(lab: Lab) -> TemplateSpec:
    return TemplateSpec(id=TemplateId(new_id(lab.prefix)), size=SIZE, name="bollard conformance")


def sealed(lab: Lab, generation: int = 1) -> tuple[TemplateId, Volume]:
    """Return a sealed template and its seed; it holds a generation of the seed's pattern."""
    template = _template(lab)
    seed = lab.pool.volumes.prepare_template(template)
    lab.write(seed, generation)
    lab.pool.volumes.seal_template(template.id)
    return template.id, seed


@contextmanager
def _prepare_template(lab: Lab) -> Iterator[Attempt]:
    template = _template(lab)
    yield Attempt(act=lambda pool: pool.volumes.prepare_template(template), mark=True)


@contextmanager
def _seal_template(lab: Lab) -> Iterator[Attempt]:
    template = _template(lab)
    seed = lab.pool.volumes.prepare_template(template)
    lab.write(seed, 1)
    yield Attempt(act=lambda pool: pool.volumes.seal_template(template.id), volumes=(seed.id,))


@contextmanager
def _from_template(lab: Lab) -> Iterator[Attempt]:
    (template, _), wanted = sealed(lab), spec(lab)
    yield Attempt(act=lambda pool: pool.volumes.from_template(template, wanted), mark=True)


@contextmanager
def _evict_template(lab: Lab) -> Iterator[Attempt]:
    template, _ = sealed(lab)
    made = lab.pool.volumes.from_template(template, spec(lab)).id
    yield Attempt(act=lambda pool: pool.volumes.evict_template(template), volumes=(made,))


@contextmanager
def _take_group(lab: Lab) -> Iterator[Attempt]:
    volumes, wanted = (written(lab).id, written(lab).id), vm(lab)
    yield Attempt(act=lambda pool: pool.vm_snapshots.take(volumes, wanted), volumes=volumes)


@contextmanager
def _revert_group(lab: Lab) -> Iterator[Attempt]:
    volumes, taken = (written(lab), written(lab)), vm(lab)
    ids = (volumes[0].id, volumes[1].id)
    lab.pool.vm_snapshots.take(ids, taken)
    for volume in volumes:
        lab.write(volume, 2)
    yield Attempt(act=lambda pool: pool.vm_snapshots.revert(ids, taken), volumes=ids)


@contextmanager
def _delete_group(lab: Lab) -> Iterator[Attempt]:
    volumes, taken = (written(lab).id, written(lab).id), vm(lab)
    lab.pool.vm_snapshots.take(volumes, taken)
    lab.snapshot(volumes[0])
    yield Attempt(act=lambda pool: pool.vm_snapshots.delete(volumes, taken), volumes=volumes)


_MANAGED = ("managed",)
_DUPLICATES = "HPE CON-2642, vsphere-csi#2507: a retry made a second volume"
OPERATIONS = (
    Operation(name="create", words="Creating a volume", begin=_create, field_bug=_DUPLICATES),
    Operation(name="delete", words="Deleting a volume", begin=_delete),
    Operation(name="resize", words="Growing a volume", begin=_resize, needs=(Resizes,)),
    Operation(
        name="clone",
        words="Cloning a volume",
        begin=_clone,
        needs=(ClonesVolume,),
        field_bug="dell/csm#1425: the retry returned an empty volume",
    ),
    Operation(name="snapshot", words="Taking a snapshot", begin=_snapshot, needs=(Snapshots,)),
    Operation(
        name="delete_snapshot", words="Deleting a snapshot", begin=_delete_snapshot, needs=(Snapshots,)
    ),
    Operation(
        name="from_snapshot",
        words="Making a volume of a snapshot",
        begin=_from_snapshot,
        needs=(Snapshots, VolumeFromSnapshot),
    ),
    Operation(name="revert", words="Reverting a volume", begin=_revert, needs=(Snapshots, Reverts)),
    Operation(name="set_qos", words="Setting limits", begin=_set_qos, needs=(HasQos,)),
    Operation(name="grant", words="Granting a volume", begin=_grant, kinds=_MANAGED),
    Operation(name="revoke", words="Revoking a grant", begin=_revoke, kinds=_MANAGED),
    Operation(name="adopt", words="Adopting an object", begin=_adopt, needs=(Adopts,)),
    Operation(name="release", words="Releasing a volume", begin=_release, needs=(Adopts,)),
    Operation(
        name="prepare_template",
        words="Preparing a template",
        begin=_prepare_template,
        needs=(TemplateCache,),
    ),
    Operation(name="seal_template", words="Sealing a template", begin=_seal_template, needs=(TemplateCache,)),
    Operation(
        name="from_template",
        words="Making a volume of a template",
        begin=_from_template,
        needs=(TemplateCache,),
    ),
    Operation(
        name="evict_template", words="Evicting a template", begin=_evict_template, needs=(TemplateCache,)
    ),
    Operation(
        name="take_group", words="Snapshotting a VM's volumes", begin=_take_group, needs=(VmSnapshots,)
    ),
    Operation(
        name="revert_group", words="Reverting a VM's volumes", begin=_revert_group, needs=(VmSnapshots,)
    ),
    Operation(
        name="delete_group",
        words="Deleting a VM's snapshot",
        begin=_delete_group,
        needs=(VmSnapshots, Snapshots),
    ),
)
