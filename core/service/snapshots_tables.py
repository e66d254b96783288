"""The service's own tables, beside those of snapshots and refs.

volume_snapshots  1 ── 1  snapshot_orders     what was asked for, and the backup that is still to be made
                  1 ── n  snapshot_uses       what is made of it, or was
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import Double, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, MappedAsDataclass, mapped_column

from ...transfer_objects.enums import SnapshotLocation
from ..catalog.base import Base, stored
from .decision import Goal

# As the indexes below have them: a database uses such an index only for a condition in the same words.
WANTED = text("snapshot_orders.wanted")
UNFINISHED = text("NOT snapshot_uses.finished")


class UseKind(StrEnum):
    """What is made of a snapshot."""

    VOLUME = "volume"
    TEMPLATE = "template"
    REVERT = "revert"


class SnapshotOrder(MappedAsDataclass, Base, kw_only=True):
    """What somebody asked for.

    Attributes:
        pool: and `store`: names of the pool, and of the store that it is archived on.
        cut: when it was cut, as the archive writes it; "" until then.
        wanted: somebody waits for its backup. It stays so from one attempt to the next.
        attempts: that have failed.
        due: when the next one may begin, seconds since the epoch.
        cancelled: the backup is to stop; whoever copies looks at it.
        problem: why the last attempt failed.
    """

    __tablename__ = "snapshot_orders"
    __table_args__ = (
        Index(
            "snapshot_orders_wanted",
            "due",
            sqlite_where=text("wanted"),
            postgresql_where=text("wanted"),
        ),
    )

    snapshot: Mapped[str] = mapped_column(ForeignKey("volume_snapshots.id"), primary_key=True)
    volume: Mapped[str] = mapped_column(index=True)
    name: Mapped[str]
    account: Mapped[str]
    pool: Mapped[str]
    store: Mapped[str]
    location: Mapped[SnapshotLocation] = mapped_column(stored(SnapshotLocation))
    goal: Mapped[Goal] = mapped_column(stored(Goal))
    quiesce: Mapped[bool]
    vm: Mapped[str] = mapped_column(default="", index=True)
    host: Mapped[str] = mapped_column(default="")
    cut: Mapped[str] = mapped_column(default="")
    wanted: Mapped[bool] = mapped_column(default=False)
    attempts: Mapped[int] = mapped_column(default=0)
    due: Mapped[float] = mapped_column(Double, default=0.0)
    cancelled: Mapped[bool] = mapped_column(default=False)
    problem: Mapped[str] = mapped_column(default="")


class SnapshotUse(MappedAsDataclass, Base, kw_only=True):
    """What is made of a snapshot: while it is made, the snapshot is in use.

    Attributes:
        target: id of the volume or template.
        place: name of the pool, or of a template's store.
        finished: it is whole. The row stays as long as the snapshot, so that a repeat finds it.
    """

    __tablename__ = "snapshot_uses"
    __table_args__ = (
        Index(
            "snapshot_uses_unfinished",
            "snapshot",
            sqlite_where=text("NOT finished"),
            postgresql_where=text("NOT finished"),
        ),
    )

    kind: Mapped[UseKind] = mapped_column(stored(UseKind), primary_key=True)
    target: Mapped[str] = mapped_column(primary_key=True)
    snapshot: Mapped[str] = mapped_column(ForeignKey("volume_snapshots.id"), index=True)
    place: Mapped[str]
    account: Mapped[str] = mapped_column(default="")
    finished: Mapped[bool] = mapped_column(default=False)
