"""Taking over files that stand in the pool directory, and giving volumes back as such files."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ....core.dataplane import image_lock
from ....core.dataplane.image_info import probe_fd, refuse_hostile
from ....core.spi import Adopts, Call, Conflict, InUse, InvalidArgument, NotFound, Volume, VolumeSpec
from ....transfer_objects.ids import VolumeId
from .shelf import FORMATS, Record, now
from .volumes import VolumeFiles


class AdoptedFiles(VolumeFiles, Adopts):
    """A foreign file becomes a volume by moving into `volumes/`, and is one no more by moving out."""

    def adopt_volume(self, native_name: str, spec: VolumeSpec, call: Call) -> Volume:
        """See `Adopts.adopt_volume`: a file of the pool's format in the pool directory itself."""
        native, shelf = self._native(native_name), self._pool.volumes
        origin = f"adopted:{native_name}"
        with self._pool.job(shelf, spec.id, call):
            present = shelf.find(spec.id)
            if present is not None:
                return self._same_volume(present, spec.size, origin)
            if not os.path.lexists(native):
                raise self._why_missing(native_name)
            record = Record(key=spec.id, format=self._format, name=spec.name, origin=origin, created=now())
            with image_lock.alone(native) as fd:
                self._check(native, fd, spec.size)
                shelf.publish(record, native)
            return self._volume(shelf, record)

    def release_volume(self, volume: VolumeId, call: Call) -> str:
        """See `Adopts.release_volume`: the file moves to the pool directory itself."""
        shelf = self._pool.volumes
        with self._pool.job(shelf, volume, call):
            record = shelf.find(volume)
            if record is None:
                return self._released(volume)
            self._refuse_snapshots(volume)
            target = self._pool.root / shelf.image(record).name
            if os.path.lexists(target):
                raise Conflict(f"a file {target.name} is in the way in the pool directory")
            with image_lock.alone(shelf.image(record)):
                shelf.give_away(record, target)
            return target.name

    def _native(self, name: str) -> Path:
        if not name or name in (".", "..") or "/" in name or not name.isprintable():
            raise InvalidArgument(f"{name!r} is not the name of a file in the pool directory")
        return self._pool.root / name

    def _check(self, native: Path, fd: int, size: int) -> None:
        """Refuse what is not a plain, self-contained image of the size that is told."""
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise InvalidArgument(f"{native.name} is not a regular file with one name")
        info = probe_fd(fd, native, self._format)
        refuse_hostile(info, native)
        if info.virtual_size != size:
            raise Conflict(f"{native.name} has {info.virtual_size} bytes, not {size}")

    def _why_missing(self, name: str) -> InUse | NotFound:
        """Tell apart what is ours already and what never was; looks at every record."""
        shelf = self._pool.volumes
        for record in shelf.records():
            if record.origin == f"adopted:{name}" or shelf.image(record).name == name:
                return InUse(f"{name} is volume {record.key}")
        return NotFound(f"there is no file {name} in the pool directory")

    def _released(self, volume: VolumeId) -> str:
        """Return the name of a volume that an earlier call gave away."""
        for image_format in FORMATS:
            name = f"{volume}.{image_format}"
            if os.path.lexists(self._pool.root / name):
                self._pool.volumes.sweep(volume)
                return name
        raise NotFound(f"volume {volume} does not exist")
