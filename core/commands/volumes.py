"""Volumes as answers tell them."""

from __future__ import annotations

from ...transfer_objects.enums import ImageFormat
from ...transfer_objects.objects import VolumeObjectTO
from ..pool import Pool
from ..spi import FileLocation, Volume
from .telling import told


def described(asked: VolumeObjectTO, pool: Pool, volume: Volume) -> VolumeObjectTO:
    """Return a volume as it is now, for an answer; its path is its id."""
    return told(asked, path=str(volume.id), size=volume.size, format=_format(pool, volume))


def _format(pool: Pool, volume: Volume) -> ImageFormat:
    if pool.managed:
        return ImageFormat.RAW
    where = pool.volumes.locate(volume.id)
    return (
        ImageFormat.QCOW2 if isinstance(where, FileLocation) and where.format == "qcow2" else ImageFormat.RAW
    )
