"""Bollard: the storage data plane of VM clouds.

    import bollard

    with bollard.open_pool("ssd-1", "qcow2", {"path": "/mnt/pool"}) as pool:
        pool.volumes.create(bollard.VolumeSpec(id="vol-1", size=2**30))

Importing this package is cheap and opens nothing: each name below is loaded when it is first used.
Vendors write against `bollard.core.spi`; what travels between machines is in `bollard.transfer_objects`.
"""

from __future__ import annotations

import importlib as _importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .core.access import Mover
    from .core.archive import Archive
    from .core.plugins import PluginError, describe_drivers, load_driver
    from .core.pool import Pool, open_pool
    from .core.snapshots import VolumeSnapshots
    from .core.spi import Call, Capability, Outcome, StorageError, VolumeSpec
    from .core.store import Store, open_store

_HOMES = {
    "Archive": "core.archive",
    "Call": "core.spi",
    "Capability": "core.spi",
    "Mover": "core.access",
    "Outcome": "core.spi",
    "PluginError": "core.plugins",
    "Pool": "core.pool",
    "StorageError": "core.spi",
    "Store": "core.store",
    "VolumeSnapshots": "core.snapshots",
    "VolumeSpec": "core.spi",
    "describe_drivers": "core.plugins",
    "load_driver": "core.plugins",
    "open_pool": "core.pool",
    "open_store": "core.store",
}

__all__ = [
    "Archive",
    "Call",
    "Capability",
    "Mover",
    "Outcome",
    "PluginError",
    "Pool",
    "StorageError",
    "Store",
    "VolumeSnapshots",
    "VolumeSpec",
    "describe_drivers",
    "load_driver",
    "open_pool",
    "open_store",
]


def __getattr__(name: str) -> object:
    """Load a public name on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
