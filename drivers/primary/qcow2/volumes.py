"""Volumes: image files in the pool's `volumes/`; and what the other concerns share."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from ....core.dataplane import image_lock
from ....core.dataplane.image_info import probe
from ....core.spi import (
    TIB,
    Call,
    Capacity,
    ClonesVolume,
    Conflict,
    DiskFormat,
    FileLocation,
    HasDependents,
    HostPrimaryDriver,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    Outcome,
    Page,
    PoolInfo,
    ReportsCapacity,
    Resizes,
    Traits,
    Unavailable,
    Volume,
    VolumeSpec,
)
from ....transfer_objects.ids import TemplateId, VolumeId
from . import images
from .directory import Job, PoolDirectory
from .options import Qcow2Options
from .shelf import Record, Shelf, now

T = TypeVar("T")

TRAITS = Traits(max_size=64 * TIB, snapshot_while_attached=False, revert_while_attached=False)


@dataclass(frozen=True, slots=True)
class Source:
    """What a new volume is a copy of.

    Attributes:
        key: names the lock that keeps it from changing during the copy.
        find: looks it up under that lock, or raises `NotFound`.
    """

    shelf: Shelf
    key: str
    find: Callable[[], Record]

    @property
    def origin(self) -> str:
        """What the record of the copy says."""
        return f"{self.shelf.kind}:{self.key}"


class VolumeFiles(HostPrimaryDriver[Qcow2Options], Resizes, ClonesVolume, ReportsCapacity):
    """The pool and its volumes. The instance knows where the pool is; all else is in the files."""

    Options: ClassVar = Qcow2Options

    def __init__(self, options: Qcow2Options) -> None:
        super().__init__(options)
        self._pool = PoolDirectory(options.path.absolute())
        self._format: DiskFormat = "raw" if options.format == "raw" else "qcow2"

    def open(self, call: Call) -> PoolInfo:
        """See `PrimaryDriver.open`. What killed processes left is removed here."""
        call.check()
        if shutil.which("qemu-img") is None:
            raise Unavailable("qemu-img is not installed", outcome=Outcome.NOT_APPLIED)
        identity = self._pool.open(must_be_mounted=self.options.must_be_mounted)
        return PoolInfo(identity=identity, name=str(self._pool.root), backend=f"directory ({self._format})")

    def close(self) -> None:
        """See `Driver.close`."""
        self._pool.close()

    def traits(self) -> Traits:
        """See `PrimaryDriver.traits`: an image that a QEMU has open is neither copied nor replaced."""
        return TRAITS

    def create_volume(self, spec: VolumeSpec, call: Call) -> Volume:
        """See `PrimaryDriver.create_volume`."""
        return self._new_volume(spec, call, None)

    def clone_volume(self, source: VolumeId, spec: VolumeSpec, call: Call) -> Volume:
        """See `ClonesVolume.clone_volume`."""
        if source == spec.id:
            raise InvalidArgument(f"volume {source} cannot be cloned onto itself")
        return self._new_volume(
            spec, call, Source(self._pool.volumes, source, lambda: self._volume_record(source))
        )

    def delete_volume(self, volume: VolumeId, call: Call) -> None:
        """See `PrimaryDriver.delete_volume`."""
        shelf = self._pool.volumes
        with self._pool.job(shelf, volume, call):
            record = shelf.find(volume)
            if record is None:
                self._refuse_seed(volume)
                shelf.sweep(volume)
                return
            self._refuse_snapshots(volume)
            with image_lock.alone(shelf.image(record)):
                shelf.discard(record)

    def get_volume(self, volume: VolumeId, call: Call) -> Volume:
        """See `PrimaryDriver.get_volume`; the seed of a template is one too."""
        with self._pool.reading(call):
            return self._volume(*self._volume_or_seed(volume))

    def list_volumes(self, call: Call, *, after: str | None = None, limit: int = 1000) -> Page[Volume]:
        """See `PrimaryDriver.list_volumes`; sorted by id."""
        shelf = self._pool.volumes
        with self._pool.reading(call):
            return page(shelf.records(after or ""), lambda record: self._volume(shelf, record), limit)

    def locate_volume(self, volume: VolumeId, call: Call) -> FileLocation:
        """See `HostPrimaryDriver.locate_volume`; the seed of a template has a place too."""
        with self._pool.reading(call):
            shelf, record = self._volume_or_seed(volume)
            return FileLocation(path=shelf.image(record), format=record.format, read_only=record.sealed)

    def resize_volume(self, volume: VolumeId, size: int, call: Call) -> Volume:
        """See `Resizes.resize_volume`."""
        wanted, shelf = rounded(size), self._pool.volumes
        with self._pool.job(shelf, volume, call) as job:
            record = self._volume_record(volume)
            present = images.virtual_size(shelf.image(record), record.format)
            if wanted < present:
                raise InvalidArgument(f"volume {volume} has {present} bytes and cannot shrink to {wanted}")
            if wanted > present:
                images.grow(job, shelf.image(record), record.format, wanted)
            return self._volume(shelf, record)

    def capacity(self, call: Call) -> Capacity:
        """See `ReportsCapacity.capacity`: what the file system says, foreign files included.

        `provisioned` is what is in use: adding up virtual sizes would cost a look into each image.
        """
        with self._pool.reading(call):
            found = os.statvfs(self._pool.root)
            total = found.f_blocks * found.f_frsize
            used = total - found.f_bavail * found.f_frsize
            return Capacity(total=total, used=used, provisioned=used)

    # -- shared with snapshots, templates and adoption ------------------------------------------------

    def _new_volume(self, spec: VolumeSpec, call: Call, source: Source | None) -> Volume:
        """Create a volume, empty or as a copy; a repeat finds what the first call made."""
        size, shelf = rounded(spec.size), self._pool.volumes
        origin, shared = (source.origin, [source.shelf.lock_name(source.key)]) if source else ("empty", [])
        with self._pool.job(shelf, spec.id, call, shared=shared) as job:
            present = shelf.find(spec.id)
            if present is not None:
                return self._same_volume(present, size, origin)
            image_format = self._filled(job, source, size)
            record = Record(key=spec.id, format=image_format, name=spec.name, origin=origin, created=now())
            shelf.publish(record, job.staged)
            return self._volume(shelf, record)

    def _filled(self, job: Job, source: Source | None, size: int) -> DiskFormat:
        if source is None:
            images.create(job, self._format, size)
            return self._format
        record = source.find()
        image = source.shelf.image(record)
        if size < (least := images.virtual_size(image, record.format)):
            raise InvalidArgument(f"a copy of {source.origin} needs at least {least} bytes, not {size}")
        images.copy(job, image, record.format, size)
        return record.format

    def _same_volume(self, record: Record, size: int, origin: str) -> Volume:
        """Return the volume that is there already, if it is what is asked for."""
        volume = self._volume(self._pool.volumes, record)
        if (volume.size, record.origin) != (size, origin):
            raise Conflict(f"volume {volume.id} exists with {volume.size} bytes, made from {record.origin}")
        return volume

    def _volume_record(self, volume: VolumeId) -> Record:
        record = self._pool.volumes.find(volume)
        if record is None:
            raise NotFound(f"volume {volume} does not exist")
        return record

    def _volume_or_seed(self, volume: VolumeId) -> tuple[Shelf, Record]:
        seed = self._pool.templates.find(volume)
        if seed is not None:
            return self._pool.templates, seed
        return self._pool.volumes, self._volume_record(volume)

    def _volume(self, shelf: Shelf, record: Record) -> Volume:
        image = shelf.image(record)
        found = probe(image, record.format)
        return Volume(
            id=VolumeId(record.key),
            size=found.virtual_size,
            name=record.name,
            allocated=found.allocated,
            identity=str(image),
        )

    def _refuse_seed(self, volume: VolumeId) -> None:
        if self._pool.templates.find(volume) is not None:
            raise InvalidArgument(f"volume {volume} is the seed of a template: evict that")

    def _refuse_snapshots(self, volume: VolumeId) -> None:
        if next(self._snapshots_of(volume), None) is not None:
            raise HasDependents(f"volume {volume} has snapshots")

    def _snapshots_of(self, volume: VolumeId, after: str = "") -> Iterator[Record]:
        """Yield a volume's snapshots whose id is greater than `after`, sorted by id."""
        prefix = f"{volume}."
        records = self._pool.snapshots.records(prefix + after)
        return itertools.takewhile(lambda record: record.key.startswith(prefix), records)


def seed_id(template: TemplateId) -> VolumeId:
    """Return the volume id of a template's seed: a valid id that no other template has."""
    return VolumeId(f"template-{hashlib.sha256(template.encode()).hexdigest()[:40]}")


def rounded(size: int) -> int:
    """Return `size` in bytes rounded up to the granularity.

    Raises:
        InvalidArgument: not positive. LimitExceeded: too large.
    """
    if size <= 0:
        raise InvalidArgument(f"size must be positive, got {size}")
    if size > TRAITS.max_size:
        raise LimitExceeded(f"size must be at most {TRAITS.max_size} bytes, got {size}")
    return -(-size // TRAITS.size_granularity) * TRAITS.size_granularity


def page(records: Iterable[Record], show: Callable[[Record], T], limit: int) -> Page[T]:
    """Return the first `limit` records as a page; what is deleted meanwhile is left out."""
    if limit < 1:
        raise InvalidArgument(f"limit must be at least 1, got {limit}")
    taken = list(itertools.islice(records, limit + 1))
    items = []
    for record in taken[:limit]:
        try:
            items.append(show(record))
        except NotFound:
            continue
    more = len(taken) > limit
    return Page(items=items, after=taken[limit - 1].own_id if more else None)
