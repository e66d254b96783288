"""Rows of CopyCommand that end on primary storage."""

from __future__ import annotations

from contextlib import suppress

from ...transfer_objects.commands import CopyCmdAnswer
from ...transfer_objects.ids import TemplateId, VolumeId
from ...transfer_objects.objects import DataTO, SnapshotObjectTO, TemplateObjectTO, VolumeObjectTO
from ..archive import Archive
from ..dataplane import BlockSink
from ..pool import Pool
from ..site import Site
from ..spi import (
    Call,
    Capability,
    InvalidArgument,
    PermissionDenied,
    TemplateSpec,
    Unsupported,
    Volume,
    VolumeSpec,
)
from ..steps import step
from .filling import (
    Fill,
    copying,
    fill_volume,
    find_volume,
    reading_snapshot,
    reading_volume,
)
from .names import Archived, archived, snapshot_id, template_id, volume_id
from .storages import archive_of, on_primary, pool_of
from .telling import told
from .volumes import described


def template_to_pool(source: TemplateObjectTO, to: DataTO, site: Site, call: Call) -> CopyCmdAnswer:
    """Bring a template from secondary storage to a pool: as its seed, or straight as a volume."""
    pool, archive, place = pool_of(site, to), archive_of(site, source), archived(source)
    size = archive.show(step(call), volume=place.volume, snapshot=place.snapshot).size
    if isinstance(to, VolumeObjectTO):
        return _archived_to_volume(archive, place, to, site, call)
    if not isinstance(to, TemplateObjectTO):
        raise InvalidArgument("a template becomes a template or a volume")
    spec = TemplateSpec(id=template_id(to), size=size, name=to.name or "")
    if Capability.TEMPLATE_CACHE in pool.capabilities().native:
        _seed(pool, spec, restoring(archive, place, call), site, call)
    elif find_volume(pool, VolumeId(spec.id), call) is None:
        plain = VolumeSpec(id=VolumeId(spec.id), size=size, name=spec.name)
        fill_volume(site, pool, plain, size, restoring(archive, place, call), call)
    return CopyCmdAnswer(new_data=told(to, path=str(spec.id), size=size))


def _seed(pool: Pool, spec: TemplateSpec, fill: Fill, site: Site, call: Call) -> None:
    """Fill and seal a seed; one that is sealed stays as it is: nobody is let write to it."""
    mover = site.mover()
    mover.sweep_pool(pool)
    seed = pool.volumes.prepare_template(spec, step(call))
    if not pool.managed and getattr(pool.volumes.locate(seed.id, step(call)), "read_only", False):
        return
    with suppress(PermissionDenied), mover.writing_volume(pool, seed.id) as sink:
        fill(pool.throttle.sink(sink, call), False)  # noqa: FBT003 - a killed run may have written to it
    pool.volumes.seal_template(spec.id, step(call))


def clone_template(source: TemplateObjectTO, to: DataTO, site: Site, call: Call) -> CopyCmdAnswer:
    """Make a volume from a template that is on the pool, and grow it to the size that is asked for."""
    if not isinstance(to, VolumeObjectTO):
        raise InvalidArgument("on one pool a template becomes a volume")
    pool, template = pool_of(site, to), template_id(source)
    if pool.info.identity != pool_of(site, source).info.identity:
        raise Unsupported("a template is cloned on its own pool; copy it to the other one from secondary")
    present = find_volume(pool, volume_id(to), call)
    made = present if present is not None else _cloned(pool, template, to, source.size, call)
    if to.size is not None and made.size < to.size:
        made = pool.volumes.resize(made.id, to.size, step(call))
    return CopyCmdAnswer(new_data=described(to, pool, made))


def _cloned(pool: Pool, template: TemplateId, to: VolumeObjectTO, size: int | None, call: Call) -> Volume:
    able = pool.capabilities().native
    least = size if size is not None else to.size
    if least is None:
        raise InvalidArgument("neither template nor volume tells a size")
    spec = VolumeSpec(id=volume_id(to), size=least, name=to.name or "")
    if Capability.TEMPLATE_CACHE in able:
        return pool.volumes.from_template(template, spec, step(call))
    return pool.volumes.clone(VolumeId(template), spec, step(call))


def archived_to_volume(source: DataTO, to: DataTO, site: Site, call: Call) -> CopyCmdAnswer:
    """Restore a volume or snapshot from secondary storage; every byte is checked."""
    return _archived_to_volume(archive_of(site, source), archived(source), _volume(to), site, call)


def _archived_to_volume(
    archive: Archive, place: Archived, to: VolumeObjectTO, site: Site, call: Call
) -> CopyCmdAnswer:
    pool = pool_of(site, to)
    least = archive.show(step(call), volume=place.volume, snapshot=place.snapshot).size
    spec = VolumeSpec(id=volume_id(to), size=max(least, to.size or 0), name=to.name or "")
    made = fill_volume(site, pool, spec, least, restoring(archive, place, call), call)
    return CopyCmdAnswer(new_data=described(to, pool, made))


def restoring(archive: Archive, place: Archived, call: Call) -> Fill:
    """Return what fills a volume with an archived image."""

    def fill(sink: BlockSink, zero: bool) -> None:  # noqa: FBT001 - as `Fill` has it
        archive.restore(sink, call, volume=place.volume, snapshot=place.snapshot, sink_is_zero=zero)

    return fill


def volume_to_volume(source: VolumeObjectTO, to: DataTO, site: Site, call: Call) -> CopyCmdAnswer:
    """Copy a volume that nobody writes to; the source stays, CloudStack deletes it afterwards.

    Raises:
        InUse: a VM has it.
    """
    target = _volume(to)
    old, new = pool_of(site, source), pool_of(site, target)
    volume, copied = volume_id(source), volume_id(target)
    if (old.info.identity, volume) == (new.info.identity, copied):
        raise InvalidArgument(f"volume {volume} cannot be copied to itself")
    least = old.volumes.get(volume, step(call)).size
    spec = VolumeSpec(id=copied, size=max(least, target.size or 0), name=target.name or "")
    with reading_volume(site, old, volume) as content:
        slow = old.throttle.source(content, call)
        made = fill_volume(site, new, spec, least, copying(slow, call), call)
    return CopyCmdAnswer(new_data=described(target, new, made))


def snapshot_to_volume(source: SnapshotObjectTO, to: DataTO, site: Site, call: Call) -> CopyCmdAnswer:
    """Make a volume from a snapshot, on any pool, wherever the snapshot lies."""
    if not on_primary(source):
        return archived_to_volume(source, to, site, call)
    target = _volume(to)
    old, new, snapshot = pool_of(site, source), pool_of(site, target), snapshot_id(source)
    least = old.snapshots.get(snapshot, step(call)).size
    spec = VolumeSpec(id=volume_id(target), size=max(least, target.size or 0), name=target.name or "")
    if _same_pool_can(old, new) and find_volume(new, spec.id, call) is None:
        made = new.volumes.from_snapshot(
            snapshot, VolumeSpec(id=spec.id, size=least, name=spec.name), step(call)
        )
        if made.size < spec.size:
            made = new.volumes.resize(made.id, spec.size, step(call))
        return CopyCmdAnswer(new_data=described(target, new, made))
    with reading_snapshot(site, old, snapshot) as content:
        slow = old.throttle.source(content, call)
        made = fill_volume(site, new, spec, least, copying(slow, call), call)
    return CopyCmdAnswer(new_data=described(target, new, made))


def _same_pool_can(old: Pool, new: Pool) -> bool:
    able = new.capabilities().native
    return old.info.identity == new.info.identity and Capability.VOLUME_FROM_SNAPSHOT in able


def _volume(to: DataTO) -> VolumeObjectTO:
    if not isinstance(to, VolumeObjectTO):
        raise InvalidArgument(f"the destination must be a volume, not a {to.object_type.lower()}")
    return to
