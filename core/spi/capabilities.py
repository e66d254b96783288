"""Capabilities: what a driver can do beyond the mandatory core.

A capability is declared by inheriting its mix-in (see `mixins.py`) and by nothing else; the enum
only names them. An instance may narrow the set (`unavailable()`), never widen it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType


class Capability(StrEnum):
    """One optional ability of a driver."""

    SNAPSHOTS = "snapshots"
    DIRECT_SNAPSHOT_READ = "direct_snapshot_read"
    REVERT = "revert"
    CLONE_VOLUME = "clone_volume"
    VOLUME_FROM_SNAPSHOT = "volume_from_snapshot"
    RESIZE = "resize"
    CHANGED_BLOCKS = "changed_blocks"
    ACCESS_CONTROL = "access_control"
    CHAP = "chap"
    QOS = "qos"
    VM_SNAPSHOTS = "vm_snapshots"
    QUIESCED_SNAPSHOTS = "quiesced_snapshots"
    ADOPT = "adopt"
    TEMPLATE_CACHE = "template_cache"
    CAPACITY = "capacity"
    # Of hypervisors (hypervisor_mixins.py).
    VM_POWER = "vm_power"
    VM_DISKS = "vm_disks"
    DISK_RESIZE = "disk_resize"
    VM_MIGRATION = "vm_migration"
    VM_SNAPSHOT_METADATA = "vm_snapshot_metadata"
    OVERLAYS = "overlays"
    BACKUPS = "backups"


# CloudStack's `caps` keys (DataStoreCapabilities) and the capability that makes each one true.
CLOUDSTACK_CAPS: Mapping[str, Capability] = MappingProxyType(
    {
        "VOLUME_SNAPSHOT_QUIESCEVM": Capability.QUIESCED_SNAPSHOTS,
        "STORAGE_SYSTEM_SNAPSHOT": Capability.SNAPSHOTS,
        "CAN_CREATE_VOLUME_FROM_SNAPSHOT": Capability.VOLUME_FROM_SNAPSHOT,
        "CAN_CREATE_VOLUME_FROM_VOLUME": Capability.CLONE_VOLUME,
        "CAN_REVERT_VOLUME_TO_SNAPSHOT": Capability.REVERT,
        "CAN_DIRECT_ATTACH_SNAPSHOT": Capability.DIRECT_SNAPSHOT_READ,
    }
)


def cloudstack_caps(declared: Iterable[Capability], *, managed: bool) -> dict[str, str]:
    """Return CloudStack's `caps` map: string keys, "true"/"false" as its API gives them.

    Args:
        declared: the pool's effective capabilities.
        managed: STORAGE_SYSTEM_SNAPSHOT means "the snapshot lives on the array"; a file pool whose
            snapshots the hypervisor makes never says so.
    """
    have = frozenset(declared)
    caps = {key: str(capability in have).lower() for key, capability in CLOUDSTACK_CAPS.items()}
    if not managed:
        caps["STORAGE_SYSTEM_SNAPSHOT"] = "false"
    return caps
