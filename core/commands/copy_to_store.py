"""Rows of CopyCommand that end on secondary storage. What arrives there is in the archive's format.

A copy that is killed is taken up again by the repeated command: finished parts are not sent twice, and
nothing is visible before it is whole.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack

from ...transfer_objects.commands import CopyCmdAnswer
from ...transfer_objects.ids import SnapshotId, VolumeId
from ...transfer_objects.objects import DataTO, SnapshotObjectTO, TemplateObjectTO, VolumeObjectTO
from ..archive import Archive, CreateOptions, Manifest
from ..dataplane import BlockSource
from ..pool import Pool
from ..site import Site
from ..snapshots import VolumeSnapshots
from ..snapshots.origin import origin_of
from ..spi import Call, InvalidArgument, NotFound
from ..steps import step
from .filling import reading_snapshot, reading_volume
from .names import TEMPLATE, VOLUME_COPY, Archived, archived, snapshot_id, template_id, volume_id
from .storages import archive_of, on_primary, pool_of, store_of
from .telling import told


def back_up(
    source: SnapshotObjectTO, to: DataTO, site: Site, call: Call, *, full: bool, temporary: bool
) -> CopyCmdAnswer:
    """Copy a snapshot from its pool to secondary storage.

    It then leaves a pool that is not managed, once the copy was read back and found whole; an array keeps it
    until it is deleted there.

    Args:
        full: not as an increment to its parent.
        temporary: it stays on the pool.
    """
    if not isinstance(to, SnapshotObjectTO):
        raise InvalidArgument("a snapshot is backed up as a snapshot")
    pool, archive = pool_of(site, source), archive_of(site, to)
    service = VolumeSnapshots(pool=pool, archive=archive, mover=site.mover())
    volume, snapshot = volume_id(source.volume), snapshot_id(source)
    manifest = find_archived(archive, Archived(volume, snapshot), call)
    site.mover().sweep_pool(pool)
    if manifest is None:
        parent = None if full else _parent(source, archive, volume, call)
        manifest = service.archive_snapshot(volume, snapshot, call, parent=parent)
    if not pool.managed and not temporary:
        service.release(volume, snapshot, step(call))
    place = Archived(volume, snapshot)
    return CopyCmdAnswer(new_data=told(to, path=place.path, physical_size=stored(manifest)))


def _parent(source: SnapshotObjectTO, archive: Archive, volume: VolumeId, call: Call) -> SnapshotId | None:
    """Return the parent if it is in this archive; else a full is made."""
    for path in reversed(source.parents):
        place = archived(SnapshotObjectTO(path=path, name=source.name, volume=source.volume))
        if place.path == path and place.volume == volume:
            return place.snapshot if find_archived(archive, place, call) is not None else None
    return None


def find_archived(archive: Archive, place: Archived, call: Call) -> Manifest | None:
    """Return what lies at a place of an archive, or None."""
    try:
        return archive.show(step(call), volume=place.volume, snapshot=place.snapshot)
    except NotFound:
        return None


def stored(manifest: Manifest) -> int:
    """Return the bytes that a snapshot's own parts occupy on the store."""
    return sum(part.size for _, part in manifest.parts() if part.layer.partition("/")[0] == manifest.snapshot)


def volume_to_store(source: VolumeObjectTO, to: DataTO, site: Site, call: Call) -> CopyCmdAnswer:
    """Copy a volume that nobody writes to. A copy that is there already is replaced: it may be an older one.

    The older one stays readable until the new one is whole, and takes its place in one step.
    It lies under the id of the destination: two destinations are two copies, each with the bytes of its time.
    No path counts: what it names, which could be anybody's snapshot, would be replaced.

    Raises:
        InUse: a VM has it.
        StorageError: as of `Archive.replace`: its outcome says whether the older copy is still the one there.
    """
    if not isinstance(to, VolumeObjectTO):
        raise InvalidArgument("a volume is copied as a volume")
    pool, archive = pool_of(site, source), archive_of(site, to)
    place = Archived(to.uuid or volume_id(source), VOLUME_COPY)
    with reading_volume(site, pool, volume_id(source)) as content:
        options, slow = CreateOptions(origin=origin_of(pool.name)), pool.throttle.source(content, call)
        manifest = archive.replace(slow, call, **place._asdict(), options=options)
    return CopyCmdAnswer(new_data=told(to, path=place.path, size=manifest.size))


def to_template(source: DataTO, to: DataTO, site: Site, call: Call) -> CopyCmdAnswer:
    """Make a template on secondary storage from a volume or a snapshot, wherever that lies.

    Raises:
        Conflict: the template exists with another size.
        InUse: it is a volume that a VM has.
    """
    if not isinstance(to, TemplateObjectTO):
        raise InvalidArgument("a template is needed as destination")
    archive, place = archive_of(site, to), Archived(VolumeId(template_id(to)), TEMPLATE)
    manifest = find_archived(archive, place, call)
    if manifest is None:
        with ExitStack() as stack:
            content, origin = _opened(source, site, call, stack)
            manifest = _create(archive, place, content, origin, call)
    new = told(to, path=place.path, size=manifest.size, physical_size=stored(manifest))
    return CopyCmdAnswer(new_data=new)


def _opened(source: DataTO, site: Site, call: Call, stack: ExitStack) -> tuple[BlockSource, str]:
    """Open what a template is made from, until the stack ends; returns it with its origin's name."""
    if not on_primary(source):
        place = archived(source)
        archive = archive_of(site, source)
        content = archive.open(call, volume=place.volume, snapshot=place.snapshot)
        return stack.enter_context(content), f"{place.volume}/{place.snapshot}"
    pool = pool_of(site, source)
    opened = stack.enter_context(_reading(source, pool, site))
    return pool.throttle.source(opened, call), pool.name


def _reading(source: DataTO, pool: Pool, site: Site) -> AbstractContextManager[BlockSource]:
    match source:
        case SnapshotObjectTO():
            return reading_snapshot(site, pool, snapshot_id(source))
        case VolumeObjectTO():
            return reading_volume(site, pool, volume_id(source))
        case _:
            raise InvalidArgument("a template is made from a volume or a snapshot")


def _create(archive: Archive, place: Archived, content: BlockSource, origin: str, call: Call) -> Manifest:
    options = CreateOptions(origin=origin_of(origin))
    return archive.create(content, call, volume=place.volume, snapshot=place.snapshot, options=options)


def store_to_store(source: DataTO, to: DataTO, site: Site, call: Call) -> CopyCmdAnswer:
    """Copy what is archived to another store; a snapshot without its parents, which it does not need."""
    if type(source) is not type(to):
        raise InvalidArgument("between secondary stores nothing becomes something else")
    here, there, place = archive_of(site, source), archive_of(site, to), archived(source)
    if site.store_for(store_of(source)) is site.store_for(store_of(to)):
        raise InvalidArgument("source and destination are one store")
    there.copy_from(here, call, volume=place.volume, snapshots=[place.snapshot])
    return CopyCmdAnswer(new_data=told(to, path=place.path))
