"""Where things are: the hosts, pools and stores that records name, as they were when they were last seen.

How they are reached, with which secrets, is the configuration's; nothing of it is here.
"""

from __future__ import annotations

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, MappedAsDataclass, mapped_column

from ...transfer_objects.enums import DataStoreRole
from .base import Base, stored

_ID = String(64)
_NAME = String(255)


class HostRecord(MappedAsDataclass, Base, kw_only=True):
    """A hypervisor host.

    Attributes:
        hypervisor: name of its driver in the configuration.
        seen: when it last spoke to us, UTC; "" never.
    """

    __tablename__ = "hosts"
    __table_args__ = (Index("hosts_cluster", "cluster", "id"),)

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    name: Mapped[str] = mapped_column(_NAME, unique=True)
    hypervisor: Mapped[str] = mapped_column(_NAME, default="")
    zone: Mapped[str] = mapped_column(_NAME, default="")
    cluster: Mapped[str] = mapped_column(_NAME, default="")
    seen: Mapped[str] = mapped_column(String(40), default="")


class PoolRecord(MappedAsDataclass, Base, kw_only=True):
    """Primary storage; `id` is its uuid, `managed` that each volume is a LUN or an export."""

    __tablename__ = "pools"

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    name: Mapped[str] = mapped_column(_NAME, unique=True)
    driver: Mapped[str] = mapped_column(_NAME)
    managed: Mapped[bool]
    zone: Mapped[str] = mapped_column(_NAME, default="")
    cluster: Mapped[str] = mapped_column(_NAME, default="")


class StoreRecord(MappedAsDataclass, Base, kw_only=True):
    """Secondary storage; `id` is its uuid."""

    __tablename__ = "stores"

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    name: Mapped[str] = mapped_column(_NAME, unique=True)
    driver: Mapped[str] = mapped_column(_NAME)
    role: Mapped[DataStoreRole] = mapped_column(stored(DataStoreRole), default=DataStoreRole.IMAGE)
    zone: Mapped[str] = mapped_column(_NAME, default="")
