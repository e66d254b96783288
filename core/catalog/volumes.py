"""Volumes and templates, and what lies of them on which store.

VolumeRecord   what a user sees: its pool, its VM      ObjectRef   its bytes on one store
vol-1  Ready   pool-1  vm-1 vda  ─────────────────────  nightly  Ready   an upload of it
TemplateRecord
tpl-1  Ready                     ─────┬───────────────  nightly  Ready
                                      └───────────────  pool-1   Ready   a copy to clone from
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, MappedAsDataclass, mapped_column

from ...transfer_objects.enums import DataStoreRole
from .base import BIG, Base, stored
from .object_states import OBJECTS, ObjectEvent, ObjectState
from .transitions import move
from .unfinished import unfinished_index
from .volume_states import VOLUMES, VolumeEvent, VolumeState

# A template lives as its bytes do; its history is its own.
TEMPLATES = OBJECTS.called("template")

_ID = String(64)
_PATH = String(512)  # it is in an index, whose entries PostgreSQL keeps below 2.7 kB


class ObjectKind(StrEnum):
    """Whose bytes."""

    VOLUME = "volume"
    TEMPLATE = "template"


class VolumeRecord(MappedAsDataclass, Base, kw_only=True):
    """A volume.

    Attributes:
        name: what people call it.
        pool: name of the pool that it lies on.
        size: bytes that a guest sees.
        format: of its image; "raw" on managed storage.
        path: on the pool, where that is not the id; "" else.
        vm: id of the VM that has it; None: it is attached nowhere.
        device: of that VM, such as "vda".
        parent_snapshot: id of the snapshot that it was made of.
        parent_template: id of the template that it was made of.
        error: why it is in Error, for the user.
    """

    __tablename__ = "volumes"
    __table_args__ = (
        Index("volumes_pool", "pool", "id"),
        Index("volumes_vm", "vm", "id"),
        unfinished_index("volumes", VOLUMES.transient, "id"),
    )

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    pool: Mapped[str] = mapped_column(String(255))
    created: Mapped[str] = mapped_column(String(40))
    name: Mapped[str] = mapped_column(String(255), default="")
    state: Mapped[VolumeState] = mapped_column(stored(VolumeState), default=VolumeState.ALLOCATED)
    size: Mapped[int] = mapped_column(BIG, default=0)
    format: Mapped[str] = mapped_column(String(16), default="raw")
    path: Mapped[str] = mapped_column(_PATH, default="")
    vm: Mapped[str | None] = mapped_column(_ID, default=None)
    device: Mapped[str] = mapped_column(_ID, default="")
    parent_snapshot: Mapped[str | None] = mapped_column(_ID, default=None)
    parent_template: Mapped[str | None] = mapped_column(_ID, default=None)
    error: Mapped[str] = mapped_column(Text, default="")

    def take(self, event: VolumeEvent, reason: str = "") -> None:
        """Move on and record it; raises `IllegalTransition` where the event does not fit."""
        move(self, VOLUMES, event, reason)


class TemplateRecord(MappedAsDataclass, Base, kw_only=True):
    """What volumes are made of.

    Attributes:
        name: what people call it.
        size: bytes that a guest sees; 0 while unknown.
        format: of its images.
        checksum: of its bytes, as "sha256:…"; "" while unknown.
        error: why it is in Failed, for the user.
    """

    __tablename__ = "templates"
    __table_args__ = (unfinished_index("templates", TEMPLATES.transient, "id"),)

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    created: Mapped[str] = mapped_column(String(40))
    name: Mapped[str] = mapped_column(String(255), default="")
    state: Mapped[ObjectState] = mapped_column(stored(ObjectState), default=ObjectState.ALLOCATED)
    size: Mapped[int] = mapped_column(BIG, default=0)
    format: Mapped[str] = mapped_column(String(16), default="raw")
    checksum: Mapped[str] = mapped_column(String(140), default="")
    error: Mapped[str] = mapped_column(Text, default="")

    def take(self, event: ObjectEvent, reason: str = "") -> None:
        """Move on and record it; raises `IllegalTransition` where the event does not fit."""
        move(self, TEMPLATES, event, reason)


class ObjectRef(MappedAsDataclass, Base, kw_only=True):
    """The bytes of a volume or a template on one store; snapshots have a `Ref` of their own.

    Attributes:
        id: rises with time.
        kind: whose bytes; `object` is its id.
        store: name of the store, or of the pool: `role` says which of the two, as both may have one name.
        path: on the store.
        size: bytes that a guest sees; `physical_size`: bytes that it takes on the store.
    """

    __tablename__ = "object_refs"
    __table_args__ = (
        UniqueConstraint("kind", "object", "role", "store", name="object_refs_one_per_store"),
        Index("object_refs_store", "store", "path"),
        unfinished_index("object_refs", OBJECTS.transient, "id"),
    )

    id: Mapped[int] = mapped_column(BIG, primary_key=True, autoincrement=True, init=False)
    kind: Mapped[ObjectKind] = mapped_column(stored(ObjectKind))
    object: Mapped[str] = mapped_column(_ID)
    store: Mapped[str] = mapped_column(String(255))
    role: Mapped[DataStoreRole] = mapped_column(stored(DataStoreRole))
    path: Mapped[str] = mapped_column(_PATH)
    created: Mapped[str] = mapped_column(String(40))
    state: Mapped[ObjectState] = mapped_column(stored(ObjectState), default=ObjectState.ALLOCATED)
    size: Mapped[int] = mapped_column(BIG, default=0)
    physical_size: Mapped[int] = mapped_column(BIG, default=0)

    def take(self, event: ObjectEvent, reason: str = "") -> None:
        """Move on and record it; raises `IllegalTransition` where the event does not fit."""
        move(self, OBJECTS, event, reason)
