"""Incremental snapshots as the catalog has them, for people and programs."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import aliased

from ..catalog import Catalog
from ..catalog.snapshots import Ref, RefState, SnapshotRecord, SnapshotState
from .increments import ARCHIVE, DIRECTORY, POOL

_GONE_FOR_USERS = (SnapshotState.HIDDEN, SnapshotState.DESTROYED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Increment:
    """One snapshot on one store.

    Attributes:
        state: of the snapshot; `ref_state` of its bytes on this store.
        parent: the snapshot that it holds the changes to; "" for a full.
        full_reason: why it is a full, "" for a delta; `end_reason`: why nothing may be based on it.
        size: bytes that the guest saw; `physical_size`: bytes that it takes on the store.
        frozen_seconds: for how long the guest stood still.
    """

    snapshot: str
    volume: str
    created: str
    state: str
    ref_state: str
    store: str
    parent: str
    full_reason: str
    end_reason: str
    size: int
    physical_size: int
    frozen_seconds: float
    error: str


def listed(catalog: Catalog, *, volume: str = "", snapshot: str = "") -> list[Increment]:
    """Return what users have, oldest first, and what is in Error with its reason; all, or of one volume."""
    there = or_(Ref.state != RefState.DESTROYED, SnapshotRecord.state == SnapshotState.ERROR)
    return _rows(catalog, volume, snapshot, there, SnapshotRecord.state.not_in(_GONE_FOR_USERS))


def chain_of(catalog: Catalog, volume: str) -> list[Increment]:
    """Return all that lies on stores of a volume, what its user has deleted and others need as well."""
    return _rows(catalog, volume, "", Ref.state != RefState.DESTROYED)


def _rows(catalog: Catalog, volume: str, snapshot: str, *fits: ColumnElement[bool]) -> list[Increment]:
    ours = or_(*(Ref.store.startswith(kind) for kind in (POOL, DIRECTORY, ARCHIVE)))
    parent = aliased(Ref)
    chosen = (
        select(SnapshotRecord, Ref, parent.snapshot)
        .join(Ref, Ref.snapshot == SnapshotRecord.id)
        .outerjoin(parent, parent.id == Ref.parent)
        .where(ours, *fits)
    )
    if volume:
        chosen = chosen.where(SnapshotRecord.volume == volume)
    if snapshot:
        chosen = chosen.where(SnapshotRecord.id == snapshot)
    with catalog.reading() as session:
        found = session.execute(chosen.order_by(SnapshotRecord.volume, Ref.id)).all()
    return [_row(record, ref, named or "") for record, ref, named in found]


def _row(record: SnapshotRecord, ref: Ref, parent: str) -> Increment:
    return Increment(
        snapshot=record.id,
        volume=record.volume,
        created=record.created,
        state=record.state.value,
        ref_state=ref.state.value,
        store=ref.store,
        parent=parent,
        full_reason=ref.full_reason.value if ref.full_reason else "",
        end_reason=ref.end_reason.value if ref.end_reason else "",
        size=ref.size,
        physical_size=ref.physical_size,
        frozen_seconds=record.frozen_seconds,
        error=record.error,
    )
