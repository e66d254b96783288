"""The values that cross the SPI. Frozen, keyword-only, no behaviour beyond their own rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import islice
from types import MappingProxyType
from typing import Generic, Protocol, TypeVar

from ...transfer_objects.ids import HostId, SnapshotId, TemplateId, VmId, VmSnapshotId, VolumeId
from ...transfer_objects.secret import Secret
from .errors import InvalidArgument


class _HasId(Protocol):
    @property
    def id(self) -> str: ...


T = TypeVar("T")
Listed = TypeVar("Listed", bound=_HasId)
_EMPTY: Mapping[str, str] = MappingProxyType({})

# A driver's private data travels with the object through databases and messages.
MAX_PRIVATE_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Qos:
    """Limits of a volume; None means unlimited. Rates per second, bandwidth in bytes per second."""

    min_iops: int | None = None
    max_iops: int | None = None
    max_bytes_per_second: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSpec:
    """What the orchestrator asks for.

    Attributes:
        id: the caller's key: the same id and spec give the same volume.
        size: bytes, a multiple of 512.
        name: what a human calls it; need not be unique.
        qos: limits, where the driver has `Capability.QOS`.
    """

    id: VolumeId
    size: int
    name: str = ""
    qos: Qos | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A volume as the driver sees it.

    Attributes:
        size: bytes that a guest sees.
        allocated: bytes that it occupies now, or None if the backend does not tell.
        identity: WWN, NAA, serial or canonical path: what a host must find on the device before
            it may be used. Never the path alone on managed storage.
        private: the driver's own data (versioned by the driver, at most 4 KiB, never secrets).
    """

    id: VolumeId
    size: int
    name: str = ""
    allocated: int | None = None
    identity: str = ""
    qos: Qos | None = None
    private: Mapping[str, str] = field(default_factory=lambda: _EMPTY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A snapshot as the driver sees it.

    Attributes:
        size: virtual size of the volume at that moment, bytes.
        created: when the cut was made, timezone aware.
    """

    id: SnapshotId
    volume: VolumeId
    size: int
    created: datetime
    private: Mapping[str, str] = field(default_factory=lambda: _EMPTY)


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateSpec:
    """An image that many volumes start from; `size` in bytes."""

    id: TemplateId
    size: int
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A machine that attaches volumes.

    Attributes:
        iqn: its initiator name; what the array's access control is about.
        chap_user: and `chap_secret`: what it proves itself with, where the driver has CHAP.
    """

    id: HostId
    name: str = ""
    iqn: str = ""
    chap_user: str = ""
    chap_secret: Secret | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Who may use a volume."""

    volume: VolumeId
    host: HostId
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """Pool statistics in bytes; 0 <= used <= total. `provisioned` may exceed total on thin pools."""

    total: int
    used: int
    provisioned: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolInfo:
    """What `open` learned about the pool: its identity never changes while it holds data."""

    identity: str
    name: str
    backend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VmSnapshotTaken:
    """What `take_vm_snapshot` did.

    Attributes:
        need_unquiesce: the guest is still frozen on this driver's account; core ORs the answers.
        members: the snapshot made of each volume.
    """

    need_unquiesce: bool
    members: Mapping[VolumeId, SnapshotId]


@dataclass(frozen=True, slots=True, kw_only=True)
class VmRef:
    """The VM that a multi-volume snapshot belongs to."""

    vm: VmId
    snapshot: VmSnapshotId


class ExtentKind(StrEnum):
    """What a range of a volume holds.

    DATA must be read. ZERO reads as zeros and is allocated. HOLE reads as zeros and is not.
    """

    DATA = "data"
    ZERO = "zero"
    HOLE = "hole"


@dataclass(frozen=True, slots=True)
class Extent:
    """`length` bytes from `offset` that are all of one kind. Positional: there are millions."""

    offset: int
    length: int
    kind: ExtentKind = ExtentKind.DATA

    @property
    def end(self) -> int:
        """First byte after the extent."""
        return self.offset + self.length


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """One page of a listing; `after` is the cursor of the next page, None on the last."""

    items: Sequence[T]
    after: str | None = None

    @staticmethod
    def first(items: Iterable[Listed], limit: int) -> Page[Listed]:
        """Return the page of the first `limit` items; its cursor is the last one's id.

        Args:
            items: what lies behind the cursor that was asked for, sorted by id; one more than the
                page holds is looked at, to know whether it is the last page.
            limit: items on a page.

        Raises:
            InvalidArgument: `limit` is below 1.
        """
        if limit < 1:
            raise InvalidArgument(f"limit must be at least 1, got {limit}")
        taken = list(islice(items, limit + 1))
        return Page(items=taken[:limit], after=taken[limit - 1].id if len(taken) > limit else None)
