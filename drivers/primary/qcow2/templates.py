"""Templates: seeds of new volumes, in the pool's `templates/`."""

from __future__ import annotations

import os

from ....core.dataplane import image_lock
from ....core.dataplane.image_info import probe_fd, refuse_hostile
from ....core.spi import Call, Conflict, NotFound, TemplateCache, TemplateSpec, Volume, VolumeSpec
from ....transfer_objects.ids import TemplateId
from . import images
from .shelf import Record, now
from .volumes import Source, VolumeFiles, rounded, seed_id


class TemplateFiles(VolumeFiles, TemplateCache):
    """Seeds; each volume made from one is a copy of its own."""

    def prepare_template(self, template: TemplateSpec, call: Call) -> Volume:
        """See `TemplateCache.prepare_template`."""
        shelf, seed, size = self._pool.templates, seed_id(template.id), rounded(template.size)
        with self._pool.job(shelf, seed, call) as job:
            record = shelf.find(seed)
            if record is None:
                record = Record(key=seed, format=self._format, name=template.name, created=now())
                images.create(job, record.format, size)
                shelf.publish(record, job.staged)
            volume = self._volume(shelf, record)
            if volume.size != size:
                raise Conflict(f"template {template.id} exists with {volume.size} bytes")
            return volume

    def seal_template(self, template: TemplateId, call: Call) -> None:
        """See `TemplateCache.seal_template`. What was written into the seed is checked here.

        Raises:
            InvalidArgument: the seed became an image that points to other files.
        """
        shelf, seed = self._pool.templates, seed_id(template)
        with self._pool.job(shelf, seed, call):
            record = shelf.find(seed)
            if record is None:
                raise NotFound(f"template {template} is not in the pool")
            if not record.sealed:
                image = shelf.image(record)
                with image_lock.alone(image) as fd:
                    refuse_hostile(probe_fd(fd, image, record.format), image)
                    os.fsync(fd)
                    shelf.seal(record)

    def create_volume_from_template(self, template: TemplateId, spec: VolumeSpec, call: Call) -> Volume:
        """See `TemplateCache.create_volume_from_template`."""
        return self._new_volume(
            spec, call, Source(self._pool.templates, seed_id(template), lambda: self._sealed(template))
        )

    def evict_template(self, template: TemplateId, call: Call) -> None:
        """See `TemplateCache.evict_template`; no volume ever depends on the seed."""
        shelf, seed = self._pool.templates, seed_id(template)
        with self._pool.job(shelf, seed, call):
            record = shelf.find(seed)
            if record is not None:
                with image_lock.alone(shelf.image(record)):
                    shelf.discard(record)

    def _sealed(self, template: TemplateId) -> Record:
        record = self._pool.templates.find(seed_id(template))
        if record is None or not record.sealed:
            raise NotFound(f"template {template} is not sealed in the pool")
        return record
