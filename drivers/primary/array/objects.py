"""The array's objects as it shows them, checked and typed, and as the SPI has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from ....core.spi import Internal, Qos, Volume
from ....transfer_objects.ids import VolumeId
from .answers import Json, member

# Our labels on the array's objects. MARK tells that the others are ours to read.
MARK, OWNER, KIND, ID, NAME, ORIGIN, STATE = (
    f"bollard-{key}" for key in ("version", "owner", "kind", "id", "name", "origin", "state")
)
VERSION = "1"
FILLING, READY, SEALED = "filling", "ready", "sealed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayVolume:
    """A volume of the array.

    Attributes:
        id: the array's own.
        busy: a job works on it.
        labels: all of its metadata, ours and others'.
    """

    id: str
    name: str
    size: int
    serial: str
    busy: bool
    allocated: int
    labels: Mapping[str, str]
    qos: Qos | None
    snapshots: int
    grants: int

    @classmethod
    def of(cls, shown: Json) -> Self:
        """Read an answer."""
        return cls(
            id=member(shown, "id", str),
            name=member(shown, "name", str),
            size=member(shown, "size", int),
            serial=member(shown, "serial", str),
            busy=member(shown, "state", str) != "online",
            allocated=member(shown, "allocated_bytes", int),
            labels=member(shown, "metadata", dict),
            qos=_qos_of(member(shown, "qos", dict)),
            snapshots=member(shown, "snapshots", int),
            grants=member(shown, "grants", int),
        )

    def is_of(self, owner: str) -> bool:
        """Tell whether the volume is ours."""
        return is_of(self.labels, owner)

    @property
    def state(self) -> str:
        """FILLING, READY or SEALED; only the last two may be shown to anybody."""
        return self.labels.get(STATE, FILLING)

    @property
    def origin(self) -> str:
        """What it was made from."""
        return self.labels.get(ORIGIN, "")

    def to_spi(self) -> Volume:
        """Return what the SPI calls a volume; its identity is what a host reads from the device."""
        return Volume(
            id=VolumeId(self.labels.get(ID, "")),
            size=self.size,
            name=self.labels.get(NAME, ""),
            allocated=self.allocated,
            identity=self.serial,
            qos=self.qos,
            private={"version": VERSION, "array_id": self.id, "array_name": self.name},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ArraySnapshot:
    """A snapshot of the array; `volume` is the array's id."""

    id: str
    volume: str
    pool: str
    size: int
    created: datetime
    labels: Mapping[str, str]

    @classmethod
    def of(cls, shown: Json) -> Self:
        """Read an answer."""
        try:
            created = datetime.fromisoformat(member(shown, "created_at", str))
        except ValueError as error:
            raise Internal("the array's answer has a 'created_at' that is no time") from error
        return cls(
            id=member(shown, "id", str),
            volume=member(shown, "volume", str),
            pool=member(shown, "pool", str),
            size=member(shown, "size", int),
            created=created,
            labels=member(shown, "metadata", dict),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayGrant:
    """A grant of the array, to an initiator or to a group of them."""

    id: str
    initiator: str | None
    group: str | None
    read_only: bool

    @classmethod
    def of(cls, shown: Json) -> Self:
        """Read an answer."""
        return cls(
            id=member(shown, "id", str),
            initiator=shown.get("initiator"),
            group=shown.get("group"),
            read_only=member(shown, "read_only", bool),
        )


def is_of(labels: Mapping[str, str], owner: str) -> bool:
    """Tell whether an object with these labels is ours."""
    return labels.get(MARK) == VERSION and labels.get(OWNER) == owner


def qos_to_array(qos: Qos | None) -> Json:
    """Return limits as the array takes them: all of them, so that the old ones go."""
    qos = qos or Qos()
    return {
        "min_iops": qos.min_iops,
        "max_iops": qos.max_iops,
        "min_bandwidth": None,
        "max_bandwidth": qos.max_bytes_per_second,
    }


def _qos_of(shown: Mapping[str, Any]) -> Qos | None:
    found = Qos(
        min_iops=shown.get("min_iops"),
        max_iops=shown.get("max_iops"),
        max_bytes_per_second=shown.get("max_bandwidth"),
    )
    return None if found == Qos() else found
