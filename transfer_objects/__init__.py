"""What travels between orchestrators, core, drivers and simulators. Knows nobody; imports no third party.

Names are loaded when they are first used: `core.spi` needs ids and secrets only, and building the
dataclasses takes most of this package's import time (measured on two cores: 65 of 70 ms).
`schema` (JSON Schema) is a module of its own that only tools import.
"""

from __future__ import annotations

import importlib as _importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .details import Details
    from .enums import (
        DataObjectType,
        DataStoreRole,
        DiskCacheMode,
        HypervisorType,
        ImageFormat,
        MigrationType,
        ProvisioningType,
        ScopeType,
        SnapshotLocation,
        SnapshotType,
        StoragePoolType,
        VMSnapshotType,
        VolumeType,
    )
    from .errors import DecodeError
    from .ids import HostId, SnapshotId, StoreId, TemplateId, VmId, VmSnapshotId, VolumeId
    from .native import decode, decode_tree, encode, encode_tree
    from .objects import (
        DataTO,
        DiskTO,
        MigrationOptions,
        SnapshotObjectTO,
        TemplateObjectTO,
        VMSnapshotTO,
        VolumeObjectTO,
    )
    from .secret import Secret
    from .stores import S3TO, DataStoreTO, ImageStoreTO, NfsTO, PrimaryDataStoreTO, SwiftTO

__all__ = [
    "S3TO",
    "DataObjectType",
    "DataStoreRole",
    "DataStoreTO",
    "DataTO",
    "DecodeError",
    "Details",
    "DiskCacheMode",
    "DiskTO",
    "HostId",
    "HypervisorType",
    "ImageFormat",
    "ImageStoreTO",
    "MigrationOptions",
    "MigrationType",
    "NfsTO",
    "PrimaryDataStoreTO",
    "ProvisioningType",
    "ScopeType",
    "Secret",
    "SnapshotId",
    "SnapshotLocation",
    "SnapshotObjectTO",
    "SnapshotType",
    "StoragePoolType",
    "StoreId",
    "SwiftTO",
    "TemplateId",
    "TemplateObjectTO",
    "VMSnapshotTO",
    "VMSnapshotType",
    "VmId",
    "VmSnapshotId",
    "VolumeId",
    "VolumeObjectTO",
    "VolumeType",
    "decode",
    "decode_tree",
    "encode",
    "encode_tree",
]

_MODULES = {
    "details": ("Details",),
    "errors": ("DecodeError",),
    "ids": ("HostId", "SnapshotId", "StoreId", "TemplateId", "VmId", "VmSnapshotId", "VolumeId"),
    "native": ("decode", "decode_tree", "encode", "encode_tree"),
    "objects": (
        "DataTO",
        "DiskTO",
        "MigrationOptions",
        "SnapshotObjectTO",
        "TemplateObjectTO",
        "VMSnapshotTO",
        "VolumeObjectTO",
    ),
    "secret": ("Secret",),
    "stores": ("DataStoreTO", "ImageStoreTO", "NfsTO", "PrimaryDataStoreTO", "S3TO", "SwiftTO"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(_importlib.import_module(f".{_HOME.get(name, 'enums')}", __name__), name)
    globals()[name] = value
    return value
