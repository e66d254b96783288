"""What answers tell: objects without secrets, and failures in words that are never empty."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from ...transfer_objects.base import TransferObject
from ...transfer_objects.details import Details
from ...transfer_objects.objects import DiskTO, VMSnapshotTO, VolumeObjectTO
from ...transfer_objects.secret import Secret
from ...transfer_objects.shapes import fields_of
from ...transfer_objects.stores import (
    S3TO,
    DataStoreTO,
    ImageStoreTO,
    NfsTO,
    PrimaryDataStoreTO,
    SwiftTO,
)
from ..spi import StorageError

D = TypeVar("D", bound=TransferObject)


def failure_text(error: StorageError) -> str:
    """Return a failure's details: code, outcome and message."""
    return f"{error.code} ({error.outcome}): {error.message or 'no reason is known'}"


def told(data: D, **changes: Any) -> D:
    """Return an object for an answer: with changes, its stores by uuid and role alone, no secret in it."""
    kept: dict[str, Any] = {}
    for field in fields_of(type(data)):
        value = getattr(data, field.name)
        if isinstance(value, Secret):
            kept[field.name] = None
        elif isinstance(value, NfsTO | SwiftTO | S3TO | PrimaryDataStoreTO | ImageStoreTO):
            kept[field.name] = _bare(value)
        elif isinstance(value, VolumeObjectTO):
            kept[field.name] = told(value)
    made: D = replace(data, **(kept | changes))  # type: ignore[type-var]  # each is a dataclass
    return made


def _bare(store: DataStoreTO) -> DataStoreTO:
    match store:
        case PrimaryDataStoreTO():
            return PrimaryDataStoreTO(uuid=store.uuid, pool_type=store.pool_type, managed=store.managed)
        case NfsTO():
            return NfsTO(uuid=store.uuid, role=store.role)
        case _:
            return type(store)(uuid=store.uuid)


def told_disk(disk: DiskTO, **changes: Any) -> DiskTO:
    """Return a disk for an answer."""
    open_details = {key: value for key, value in disk.details.items() if not isinstance(value, Secret)}
    return replace(disk, data=told(disk.data), details=Details(open_details), **changes)


def told_vm_snapshot(snapshot: VMSnapshotTO) -> VMSnapshotTO:
    """Return a VM snapshot for an answer; its ancestors are the asker's own business."""
    return replace(snapshot, parent=None, volumes=told_volumes(snapshot.volumes))


def told_volumes(volumes: tuple[VolumeObjectTO, ...]) -> tuple[VolumeObjectTO, ...]:
    """Return volumes for an answer."""
    return tuple(told(volume) for volume in volumes)
