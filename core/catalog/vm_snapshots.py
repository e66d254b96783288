"""Records of VM snapshots: what exists or is about to, on which backend, and what is under way.

    vm_snapshot  1 ── n  vm_snapshot_member     one row per disk

A row is written before the act that it tells of, so that a restart finds every name to ask for.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Double, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from .base import Base
from .unfinished import unfinished_index
from .vm_snapshot_states import UNFINISHED

_ID = String(64)


class VmSnapshotRow(Base):
    """One VM snapshot.

    Attributes:
        number: counts all snapshots: oldest first.
        state: see `vm_snapshot_states`.
        memory: whether it holds the VM's memory, too.
        strategy: who made it and takes it away, by name.
        offering: the VM's service offering at that time; a revert with memory brings it back.
        frozen_seconds: for how long the guest was frozen for the cut.
        taken: it exists on its backends and has a place in the tree.
        metadata_text: the hypervisor's own text about it, kept for when its register was emptied.
        work: what the task under way has to finish; empty between tasks.
        error: why the last task failed.
    """

    __tablename__ = "vm_snapshot"
    __table_args__ = (unfinished_index("vm_snapshot", UNFINISHED, "vm"),)

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(_ID, unique=True)
    vm: Mapped[str] = mapped_column(_ID, index=True)
    name: Mapped[str] = mapped_column(String(255))
    description: Mapped[str] = mapped_column(String(255))
    created: Mapped[str] = mapped_column(String(40))
    state: Mapped[str] = mapped_column(String(16))
    memory: Mapped[bool]
    quiesce: Mapped[bool]
    quiesced: Mapped[bool] = mapped_column(default=False)
    frozen_seconds: Mapped[float] = mapped_column(Double, default=0.0)
    current: Mapped[bool] = mapped_column(default=False)
    parent: Mapped[str | None] = mapped_column(_ID)
    strategy: Mapped[str] = mapped_column(String(64))
    offering: Mapped[dict[str, str]] = mapped_column(JSON)
    taken: Mapped[bool] = mapped_column(default=False)
    metadata_text: Mapped[str] = mapped_column(default="")
    work: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    error: Mapped[str] = mapped_column(default="")
    members: Mapped[list[VmSnapshotMemberRow]] = relationship(
        cascade="all, delete-orphan", lazy="selectin", order_by="VmSnapshotMemberRow.device"
    )


class VmSnapshotMemberRow(Base):
    """One disk in a VM snapshot.

    Attributes:
        device: of the VM; unique in it.
        volume: its id.
        kind: who keeps it: "pool" (its storage), "file" (an image of a chain), "hypervisor".
        pool: name of the volume's pool.
        image: of kind "file": path of the image that holds the instant; the guest writes above it.
        format: of the image.
        volume_snapshot: id of the volume snapshot that was made of it.
    """

    __tablename__ = "vm_snapshot_member"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    snapshot: Mapped[str] = mapped_column(ForeignKey("vm_snapshot.id"), index=True)
    device: Mapped[str] = mapped_column(_ID)
    volume: Mapped[str] = mapped_column(_ID)
    kind: Mapped[str] = mapped_column(String(16))
    pool: Mapped[str] = mapped_column(String(255))
    image: Mapped[str] = mapped_column(default="")
    format: Mapped[str] = mapped_column(String(16), default="")
    volume_snapshot: Mapped[str] = mapped_column(_ID, default="")
