"""What the functions of the snapshot service work with; the orchestrator brings most of it.

Context ── catalog      what is recorded
        ── site         pools, archives and the mover, by name
        ── inventory    volumes, pools and VMs as the orchestrator has them now
        ── hooks        authority, quota, audit
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from ...transfer_objects.enums import ImageFormat
from ...transfer_objects.ids import VmId, VolumeId
from ..access import Mover
from ..archive import Archive, Level
from ..catalog import Catalog
from ..pool import Pool
from ..settings import Settings, Where
from ..snapshots import VolumeSnapshots
from ..spi import DiskFormat
from ..store import Store
from ..vm_snapshots.machine import Machine
from .hooks import Hooks


class Site(Protocol):
    """What this machine can reach; opened when it is asked for, and closed by its owner."""

    def pool(self, name: str) -> Pool:
        """Return a pool, or raise `NotFound`."""

    def store(self, name: str) -> Store:
        """Return a secondary store, or raise `NotFound`."""

    def archive(self, name: str, *, writer: str) -> Archive:
        """Return the archive on a store, or raise `NotFound`."""

    def mover(self) -> Mover:
        """Return this machine as what moves data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeFacts:
    """A volume as the orchestrator has it.

    Attributes:
        why_not_ready: what keeps it from being used now, such as its state; "" if it is Ready.
        name: what people call it.
        store: name of the store that its snapshots go to; which one of a zone's, the orchestrator chooses.
        vm: that has it attached, running or not, with the name that people call it by.
        host: on which the VM runs; for the limit per host.
    """

    volume: VolumeId
    pool: str
    store: str
    image_format: ImageFormat
    name: str = ""
    where: Where = Where()
    vm: VmId | None = None
    vm_name: str = ""
    host: str = ""
    why_not_ready: str = ""


class Inventory(Protocol):
    """What only the orchestrator knows."""

    def volume(self, volume: VolumeId) -> VolumeFacts:
        """Return a volume, or raise `NotFound`."""

    def why_pool_is_off(self, pool: str) -> str:
        """Return why a pool takes nothing new (disabled, removed, in maintenance); "" if it does."""

    def machine(self, vm: VmId) -> Machine:
        """Return a VM and how to reach its hypervisor, or raise `NotFound`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """See the module.

    Attributes:
        clock: seconds since the epoch, by which retries are due.
        verify: how thoroughly an archived copy is read back before the primary one goes.
        overlay_format: of what a guest writes to while its volume is copied; "qcow2", unless the hypervisor
            has overlays of its own kind.
    """

    catalog: Catalog
    site: Site
    inventory: Inventory
    hooks: Hooks = Hooks()
    settings: Settings = field(default_factory=Settings)
    clock: Callable[[], float] = time.time
    verify: Level = Level.DIGEST
    overlay_format: DiskFormat = "qcow2"

    def archive(self, store: str, image: str) -> Archive:
        """Return the archive on a store, to write one image of it.

        The writer is the same on all machines: who has the claim goes on at once with what a dead one began.
        """
        return self.site.archive(store, writer=writer_of(image))

    def engine(self, pool: str, store: str, image: str) -> VolumeSnapshots:
        """Return what cuts, archives and releases snapshots of a pool."""
        return VolumeSnapshots(
            pool=self.site.pool(pool),
            archive=self.archive(store, image),
            mover=self.site.mover(),
            verify=self.verify,
        )


def writer_of(image: str) -> str:
    """Return the name under which this service archives a snapshot or template."""
    return f"bollard-service/{image}"
