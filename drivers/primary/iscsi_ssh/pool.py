"""Opening the pool, its capacity, and volumes as the agent shows them. Nothing is remembered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ....core.spi import (
    Call,
    Capacity,
    Internal,
    ManagedPrimaryDriver,
    Outcome,
    PoolInfo,
    Qos,
    ReportsCapacity,
    Traits,
    Unsupported,
    Volume,
)
from ....transfer_objects.ids import VolumeId
from .array import Array
from .options import IscsiSshOptions, check_options

VERSION = "1"
# XFS frees the blocks of deleted files in the background.
_FREED_WITHIN = 5.0
_BLOCK = 4096  # of XFS: a reflink ends at one, and so does what a discard frees


class IscsiPool(ManagedPrimaryDriver[IscsiSshOptions], ReportsCapacity):
    """A pool of the array; the base of all concerns."""

    Options: ClassVar = IscsiSshOptions

    def __init__(self, options: IscsiSshOptions) -> None:
        super().__init__(options)
        check_options(options)
        self._traits = Traits(size_granularity=_BLOCK, space_freed_within=_FREED_WITHIN)
        self._opened: Array | None = None

    def open(self, call: Call) -> PoolInfo:
        """See `PrimaryDriver.open`; grants that a restart of tgtd has lost are offered again."""
        self.close()
        self._opened = Array(self.options)
        try:
            shown = self._array.ask("open", call)
        except BaseException:
            self.close()
            raise
        return PoolInfo(identity=shown["identity"], name=str(self.options.pool), backend="tgt on XFS")

    def close(self) -> None:
        """See `Driver.close`."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    @property
    def _array(self) -> Array:
        if self._opened is None:
            raise Internal("the pool is not open", outcome=Outcome.NOT_APPLIED)
        return self._opened

    def traits(self) -> Traits:
        """See `PrimaryDriver.traits`."""
        return self._traits

    def capacity(self, call: Call) -> Capacity:
        """See `ReportsCapacity.capacity`; `provisioned` counts the volumes of all owners."""
        return Capacity(**self._array.ask("capacity", call))


def refuse_qos(qos: Qos | None) -> None:
    """Refuse limits: tgt has none."""
    if qos is not None and qos != Qos():
        raise Unsupported("this array cannot limit the rate of a volume")


def volume_of(shown: Mapping[str, Any]) -> Volume:
    """Return what the SPI calls a volume; its identity is the LUN's serial number."""
    return Volume(
        id=VolumeId(shown["id"]),
        size=shown["size"],
        name=shown["name"],
        allocated=shown["allocated"],
        identity=shown["serial"],
        private={"version": VERSION, "path": shown["path"]},
    )
