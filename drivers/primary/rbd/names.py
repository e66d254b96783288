"""Ids that are made of others, and which ids are none."""

from __future__ import annotations

import hashlib
import re

from ....core.spi import InvalidArgument
from ....transfer_objects.ids import ID_RULE, TemplateId, VolumeId, is_valid_id

_SEED = re.compile(r"template-[0-9a-f]{40}")


def checked(kind: str, text: str) -> str:
    """Return an id that is one.

    Raises:
        InvalidArgument: that is no id.
    """
    if not is_valid_id(text):
        raise InvalidArgument(f"{kind} id {text!r} is not valid: {ID_RULE}")
    return text


def own_volume(volume: VolumeId) -> VolumeId:
    """Return the id of a volume, which is not the seed of a template."""
    if _SEED.fullmatch(checked("volume", volume)):
        raise InvalidArgument(f"volume {volume} is the seed of a template")
    return volume


def seed_id(template: TemplateId) -> VolumeId:
    """Return the volume id of a template's seed; agent/volumes.py knows its form."""
    digest = hashlib.sha256(checked("template", template).encode()).hexdigest()
    return VolumeId(f"template-{digest[:40]}")
