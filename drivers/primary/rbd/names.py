"""Ids that are made of others, and which ids are none."""

from __future__ import annotations

import hashlib
import re

from ....core.spi import InvalidArgument, checked_id
from ....transfer_objects.ids import TemplateId, VolumeId

_SEED = re.compile(r"template-[0-9a-f]{40}")


def own_volume(volume: VolumeId) -> VolumeId:
    """Return the id of a volume, which is not the seed of a template."""
    if _SEED.fullmatch(checked_id("volume", volume)):
        raise InvalidArgument(f"volume {volume} is the seed of a template")
    return volume


def seed_id(template: TemplateId) -> VolumeId:
    """Return the volume id of a template's seed; agent/volumes.py knows its form."""
    digest = hashlib.sha256(checked_id("template", template).encode()).hexdigest()
    return VolumeId(f"template-{digest[:40]}")
