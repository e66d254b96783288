"""Settings that an operator changes while everything runs, by scope: the nearest one wins.

    global  <  zone  <  cluster  <  pool          each setting says in which scopes it may be set

    settings = Settings()
    settings.set("kvm.incremental.snapshot", "true", Scope.CLUSTER, "c1")
    settings.get(INCREMENTAL_SNAPSHOT, Where(zone="z1", cluster="c1"))     -> True

The names are CloudStack's, so that what operators and their scripts know stays true.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar, cast

from ..transfer_objects.errors import did_you_mean
from .spi.errors import InvalidArgument

T = TypeVar("T", bool, int)
_WORDS = {"true": True, "false": False}
_MAX_SHOWN = 64


class Scope(StrEnum):
    """For what a value holds, from far to near."""

    GLOBAL = "global"
    ZONE = "zone"
    CLUSTER = "cluster"
    POOL = "pool"


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """The place that a value is asked for; "" where there is none."""

    zone: str = ""
    cluster: str = ""
    pool: str = ""

    def owner(self, scope: Scope) -> str:
        """Return the id of the zone, cluster or pool; "" for GLOBAL."""
        owners = {Scope.ZONE: self.zone, Scope.CLUSTER: self.cluster, Scope.POOL: self.pool}
        return owners.get(scope, "")


@dataclass(frozen=True, slots=True)
class Setting(Generic[T]):
    """One setting.

    Attributes:
        default: and at the same time its type, bool or int.
        scopes: where it may be set besides GLOBAL.
        minimum: and `maximum`: bounds of an int.
    """

    name: str
    default: T
    scopes: frozenset[Scope] = frozenset()
    minimum: int = 0
    maximum: int = 2**31 - 1

    def parse(self, value: object) -> T:
        """Return a value of this setting's type.

        Raises:
            InvalidArgument: another type, or out of bounds.
        """
        if type(value) is str:
            value = self._from_text(value)
        if type(value) is not self._type:  # `isinstance` would take True for a whole number
            kind = "true or false" if self._type is bool else "a whole number"
            raise InvalidArgument(f"{self.name} must be {kind}")
        if type(value) is int and not self.minimum <= value <= self.maximum:
            raise InvalidArgument(f"{self.name} must be from {self.minimum} to {self.maximum}, got {value}")
        return cast("T", value)

    def _from_text(self, text: str) -> object:
        if self._type is bool:
            return _WORDS.get(text.strip().casefold())
        try:
            return int(text)
        except ValueError:
            return None

    @property
    def _type(self) -> type:
        return type(self.default)


# By cluster, because the clusters of a zone may run different versions of libvirt (apache/cloudstack#8907).
INCREMENTAL_SNAPSHOT = Setting(
    "kvm.incremental.snapshot", default=False, scopes=frozenset({Scope.ZONE, Scope.CLUSTER})
)
# QEMU opens every file of a chain: libvirt refuses chains of more than 200.
DELTA_MAX = Setting("snapshot.delta.max", 16, minimum=1, maximum=200)
BACKUP_TO_SECONDARY = Setting("snapshot.backup.to.secondary", default=True, scopes=frozenset({Scope.ZONE}))
BACKUP_RETRY = Setting("backup.retry", 3, maximum=1000)  # after the first attempt
BACKUP_RETRY_INTERVAL = Setting("backup.retry.interval", 300, maximum=7 * 86400)  # seconds
# CloudStack's limit per host was found not to work (#1897); here a pool has one as well.
SNAPSHOTS_PER_HOST = Setting("concurrent.snapshots.threshold.perhost", 2, minimum=1, maximum=1000)
SNAPSHOTS_PER_POOL = Setting("concurrent.snapshots.threshold.perpool", 8, minimum=1, maximum=1000)
VM_SNAPSHOT_MAX = Setting("vmsnapshot.max", 10, minimum=1, maximum=1000)

SETTINGS: Mapping[str, Setting[bool] | Setting[int]] = {
    INCREMENTAL_SNAPSHOT.name: INCREMENTAL_SNAPSHOT,
    DELTA_MAX.name: DELTA_MAX,
    BACKUP_TO_SECONDARY.name: BACKUP_TO_SECONDARY,
    BACKUP_RETRY.name: BACKUP_RETRY,
    BACKUP_RETRY_INTERVAL.name: BACKUP_RETRY_INTERVAL,
    SNAPSHOTS_PER_HOST.name: SNAPSHOTS_PER_HOST,
    SNAPSHOTS_PER_POOL.name: SNAPSHOTS_PER_POOL,
    VM_SNAPSHOT_MAX.name: VM_SNAPSHOT_MAX,
}


class Settings:
    """The values that were set; safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[tuple[str, Scope, str], bool | int] = {}

    def set(self, name: str, value: object, scope: Scope = Scope.GLOBAL, owner: str = "") -> None:
        """Set a value; it holds for whatever begins from now on.

        Args:
            value: of the setting's type, or its text ("true", "16").
            owner: id of the zone, cluster or pool.

        Raises:
            InvalidArgument: no such setting, not in this scope, no owner, or a bad value.
        """
        key = self._key(name, scope, owner)
        parsed = SETTINGS[name].parse(value)
        with self._lock:
            self._values[key] = parsed

    def unset(self, name: str, scope: Scope = Scope.GLOBAL, owner: str = "") -> None:
        """Let the next wider scope decide again; repeatable."""
        key = self._key(name, scope, owner)
        with self._lock:
            self._values.pop(key, None)

    @staticmethod
    def _key(name: str, scope: Scope, owner: str) -> tuple[str, Scope, str]:
        if name not in SETTINGS:
            hint = did_you_mean(name, SETTINGS)
            raise InvalidArgument(f"there is no setting {name[:_MAX_SHOWN]!a}; {hint}")
        allowed = {Scope.GLOBAL, *SETTINGS[name].scopes}
        if scope not in allowed:
            words = ", ".join(known for known in Scope if known in allowed)
            raise InvalidArgument(f"{name} cannot be set for a {scope}; its scopes are: {words}")
        if (scope is Scope.GLOBAL) is bool(owner):
            raise InvalidArgument(f"{name}: each scope but global needs the id of its owner")
        return name, scope, owner

    def get(self, setting: Setting[T], where: Where) -> T:
        """Return the value that holds at a place: the nearest scope's, else the default."""
        for scope in reversed(Scope):
            owner = where.owner(scope)
            with self._lock:
                value = self._values.get((setting.name, scope, owner))
            if value is not None:
                return setting.parse(value)
        return setting.default
