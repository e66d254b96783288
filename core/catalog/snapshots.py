"""Volume snapshots and where their bytes lie.

    SnapshotRecord   what a user sees           Ref   its bytes on one store
    snap-1  BackedUp ───────────────────────────  sec-1  Ready   full
    snap-2  Hidden (deleted by the user) ───────  sec-1  Hidden  since snap-1    ^ parent
    snap-3  BackedUp ──┬────────────────────────  sec-2  Ready   since snap-2    ^ parent, end of chain
                       └────────────────────────  zone2  Ready   a copy: full, no checkpoint

States move by events only: see `snapshot_states` and `object_states`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from sqlalchemy import Double, ForeignKey, Index, select, text
from sqlalchemy.orm import Mapped, MappedAsDataclass, Session, mapped_column

from ...transfer_objects.enums import DataStoreRole
from ..spi.errors import NotFound
from .base import BIG, Base, stored
from .object_states import OBJECTS, ObjectEvent, ObjectState
from .snapshot_states import SNAPSHOTS, SnapshotEvent, SnapshotState
from .transitions import move
from .unfinished import unfinished_index

__all__ = [
    "REFS",
    "Reason",
    "Ref",
    "RefEvent",
    "RefState",
    "SnapshotEvent",
    "SnapshotRecord",
    "SnapshotState",
    "refs_of_volume",
    "snapshot_of",
]


# The bytes of a snapshot on one store live as any object on a store does.
RefState = ObjectState
RefEvent = ObjectEvent
REFS = OBJECTS.called("snapshot_ref")


class Reason(StrEnum):
    """Why a snapshot is a full one, or why a chain has ended; read by operators."""

    FIRST = "the volume has no snapshot with a checkpoint"
    SETTING_OFF = "kvm.incremental.snapshot was false"
    ROLE_SWITCHED = "snapshot.backup.to.secondary was switched"
    OTHER_STORE = "the parent lies where the target cannot refer to it"
    LENGTH = "the chain has reached snapshot.delta.max"
    REVERTED = "the volume was reverted"
    MIGRATED = "the volume was migrated together with its VM"
    SHRUNK = "the volume was shrunk"
    LOST_CHECKPOINT = "the checkpoint's bitmap was lost or inconsistent"
    NEWEST_DELETED = "the checkpoint went with a newer snapshot that was deleted"
    COPIED = "it is a copy of another store's"


class SnapshotRecord(MappedAsDataclass, Base, kw_only=True):
    """A snapshot of a volume, as its user knows it.

    Attributes:
        size: bytes that the guest saw when it was cut; 0 until then.
        error: why it is in Error, for the user.
        frozen_seconds: for how long the guest stood still for the cut; 0: it was not quiesced.
    """

    __tablename__ = "volume_snapshots"
    __table_args__ = (
        Index("volume_snapshots_volume", "volume", "id"),
        unfinished_index("volume_snapshots", SNAPSHOTS.transient, "id"),
        # At rest, but not for long: a service that died before it asked any backend left them.
        Index(
            "volume_snapshots_allocated",
            "id",
            sqlite_where=text("state = 'Allocated'"),
            postgresql_where=text("state = 'Allocated'"),
        ),
        # Two processes that begin at the same moment: one of them must not.
        Index(
            "volume_snapshots_one_creating",
            "volume",
            unique=True,
            sqlite_where=text("state = 'Creating'"),
            postgresql_where=text("state = 'Creating'"),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    volume: Mapped[str]
    created: Mapped[str]
    state: Mapped[SnapshotState] = mapped_column(stored(SnapshotState), default=SnapshotState.CREATING)
    size: Mapped[int] = mapped_column(BIG, default=0)
    error: Mapped[str] = mapped_column(default="")
    frozen_seconds: Mapped[float] = mapped_column(Double, default=0.0)

    def take(self, event: SnapshotEvent, reason: str = "") -> None:
        """Move on and record it; raises `IllegalTransition` where the event does not fit."""
        move(self, SNAPSHOTS, event, reason)


class Ref(MappedAsDataclass, Base, kw_only=True):
    """The bytes of a snapshot on one store.

    Attributes:
        id: rises with time.
        path: on the store.
        parent: the ref that it holds the changes to; None for a full.
        checkpoint: from when on the hypervisor tracks what comes after it; "" without.
        checkpoint_path: where its text lies on the store; "" without.
        tracking: the hypervisor may have the checkpoint still.
        backing_up: the hypervisor may serve the backup still that it is made from.
        end_of_chain: nothing may be based on it any more, because of `end_reason`.
        full_reason: why it has no parent.
        size: bytes that the guest saw; `physical_size`: bytes that it takes on the store.
    """

    __tablename__ = "snapshot_refs"
    __table_args__ = (
        unfinished_index("snapshot_refs", REFS.transient, "id"),
        Index("snapshot_refs_store", "store", "path"),  # whose is this file?
    )

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True, init=False)
    snapshot: Mapped[str] = mapped_column(ForeignKey("volume_snapshots.id"), index=True)
    volume: Mapped[str] = mapped_column(index=True)
    store: Mapped[str]
    role: Mapped[DataStoreRole] = mapped_column(stored(DataStoreRole))
    path: Mapped[str]
    state: Mapped[RefState] = mapped_column(stored(RefState), default=RefState.CREATING)
    parent: Mapped[int | None] = mapped_column(ForeignKey("snapshot_refs.id"), default=None, index=True)
    checkpoint: Mapped[str] = mapped_column(default="")
    checkpoint_path: Mapped[str] = mapped_column(default="")
    tracking: Mapped[bool] = mapped_column(default=False)
    backing_up: Mapped[bool] = mapped_column(default=False)
    end_of_chain: Mapped[bool] = mapped_column(default=False)
    end_reason: Mapped[Reason | None] = mapped_column(stored(Reason), default=None)
    full_reason: Mapped[Reason | None] = mapped_column(stored(Reason), default=None)
    size: Mapped[int] = mapped_column(BIG, default=0)
    physical_size: Mapped[int] = mapped_column(BIG, default=0)

    def take(self, event: RefEvent, reason: str = "") -> None:
        """Move on and record it; raises `IllegalTransition` where the event does not fit."""
        move(self, REFS, event, reason)

    def end_chain(self, reason: Reason) -> None:
        """Let nothing be based on it from now on; the first reason stays."""
        if not self.end_of_chain:
            self.end_of_chain, self.end_reason = True, reason


def snapshot_of(session: Session, snapshot: str) -> SnapshotRecord:
    """Return a snapshot's record, or raise `NotFound`."""
    record = session.get(SnapshotRecord, snapshot)
    if record is None:
        raise NotFound(f"there is no snapshot {snapshot}")
    return record


def refs_of_volume(session: Session, volume: str) -> Sequence[Ref]:
    """Return the refs of a volume on all stores, oldest first, those that are gone left out.

    They are locked until the transaction ends, the roots first: whoever decides on one chain takes turns.
    """
    chosen = select(Ref).where(Ref.volume == volume, Ref.state != RefState.DESTROYED)
    return session.scalars(chosen.order_by(Ref.id).with_for_update()).all()
