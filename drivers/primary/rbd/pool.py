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
from .agents import Agents
from .options import RbdOptions, check_options

VERSION = "1"
# OSDs tell what they hold every few seconds.
_FREED_WITHIN = 15.0


class RbdPool(ManagedPrimaryDriver[RbdOptions], ReportsCapacity):
    """A pool of the cluster; the base of all concerns."""

    Options: ClassVar = RbdOptions

    def __init__(self, options: RbdOptions) -> None:
        super().__init__(options)
        check_options(options)
        self._traits = Traits(space_freed_within=_FREED_WITHIN)
        self._opened: Agents | None = None

    def open(self, call: Call) -> PoolInfo:
        """See `PrimaryDriver.open`."""
        self.close()
        self._opened = Agents(self.options)
        try:
            identity = self._agents.ask("open", call)
        except BaseException:
            self.close()
            raise
        return PoolInfo(identity=identity, name=self.options.pool, backend="Ceph RBD")

    def close(self) -> None:
        """See `Driver.close`."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    @property
    def _agents(self) -> Agents:
        if self._opened is None:
            raise Internal("the pool is not open", outcome=Outcome.NOT_APPLIED)
        return self._opened

    def traits(self) -> Traits:
        """See `PrimaryDriver.traits`."""
        return self._traits

    def capacity(self, call: Call) -> Capacity:
        """See `ReportsCapacity.capacity`; `provisioned` counts our own volumes only."""
        return Capacity(**self._agents.ask("capacity", call))


def refuse_qos(qos: Qos | None) -> None:
    """Refuse limits: librbd's are kept by the host itself, which may leave them out."""
    if qos is not None and qos != Qos():
        raise Unsupported("Ceph does not limit the rate of a volume on its side")


def volume_of(shown: Mapping[str, Any]) -> Volume:
    """Return what the SPI calls a volume; its identity is the image's id."""
    return Volume(
        id=VolumeId(shown["id"]),
        size=shown["size"],
        name=shown["name"],
        identity=shown["identity"],
        private={"version": VERSION, "image": shown["image"]},
    )
