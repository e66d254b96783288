"""Ids that are made of others: of the seeds of templates, and of the members of VM snapshots."""

from __future__ import annotations

import hashlib
import re

from ....core.spi import InvalidArgument
from ....transfer_objects.ids import SnapshotId, TemplateId, VmSnapshotId, VolumeId

_SEED = re.compile(r"template-[0-9a-f]{40}")


def seed_id(template: TemplateId) -> VolumeId:
    """Return the volume id of a template's seed."""
    return VolumeId(f"template-{_digest(template, 40)}")


def refuse_seed(volume: VolumeId) -> None:
    """Refuse to treat the seed of a template as a volume of its own."""
    if _SEED.fullmatch(volume):
        raise InvalidArgument(f"volume {volume} is the seed of a template")


def member_id(snapshot: VmSnapshotId, volume: VolumeId) -> SnapshotId:
    """Return the snapshot id of a VM snapshot's member; agent/pool.py finds its group by this form."""
    return SnapshotId(f"vms-{_digest(snapshot, 24)}-{_digest(volume, 24)}")


def _digest(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:digits]
