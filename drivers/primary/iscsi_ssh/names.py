"""Ids that are made of others: of the seeds of templates, and of the members of VM snapshots."""

from __future__ import annotations

import hashlib
import re

from ....core.spi import InvalidArgument, checked_id
from ....transfer_objects.ids import SnapshotId, TemplateId, VmSnapshotId, VolumeId

_SEED = re.compile(r"template-[0-9a-f]{40}")


def seed_id(template: TemplateId) -> VolumeId:
    """Return the volume id of a template's seed."""
    digest = _digest(checked_id("template", template), 40)
    return VolumeId(f"template-{digest}")


def own_volume(volume: VolumeId) -> VolumeId:
    """Return the id of a volume, which is not the seed of a template."""
    if _SEED.fullmatch(checked_id("volume", volume)):
        raise InvalidArgument(f"volume {volume} is the seed of a template")
    return volume


def member_id(snapshot: VmSnapshotId, volume: VolumeId) -> SnapshotId:
    """Return the snapshot id of a VM snapshot's member; agent/pool.py finds its group by this form."""
    return SnapshotId(f"vms-{_digest(snapshot, 24)}-{_digest(volume, 24)}")


def _digest(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:digits]
