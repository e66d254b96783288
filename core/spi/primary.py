"""Primary storage: the mandatory core, and its two kinds.

    PrimaryDriver
    ├── ManagedPrimaryDriver   a volume is a LUN or export; access is granted per host
    └── HostPrimaryDriver      hosts mount a pool; a volume is a file that they place in it

Two bases and not a flag: CloudStack's drivers answer 0, null or true for whatever does not apply to
their kind, and callers cannot tell "nothing" from "not my business".
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TypeVar

from ...transfer_objects.ids import VolumeId
from .call import Call
from .driver import Driver
from .location import Location
from .mixins import AccessControl
from .model import Page, PoolInfo, Volume, VolumeSpec
from .traits import Traits

O = TypeVar("O")  # noqa: E741 - as in driver.py


class PrimaryDriver(Driver[O]):
    """Volumes on one pool.

    Of a volume's bytes, whichever way hosts reach them: [vol.data] What was flushed MUST be read back,
    at its own place and by every host that attaches later. [vol.sector] Writing `Traits.sector_size`
    bytes MUST change no others. [vol.discard] What a host discarded or zeroed MUST read zeros.
    [vol.identity] On managed storage `Volume.identity` MUST NOT be another volume's, nor that of one
    that is gone: a host that still holds the old device would open the new one (CVE-2023-2088).
    [vol.full] On a full pool what needs space MUST give `OutOfCapacity`, and no other volume MUST be
    harmed.
    """

    @abstractmethod
    def open(self, call: Call) -> PoolInfo:
        """Connect and check the pool.

        [pool.open-typed] Wrong credentials MUST give `Unauthenticated`, an unreachable backend
        `Unavailable` or `DeadlineExceeded`, a missing pool `NotFound`. [pool.open-creates-nothing]
        It MUST leave no object behind.
        """

    @abstractmethod
    def traits(self) -> Traits:
        """Return the limits; constant while the instance is open."""

    @abstractmethod
    def create_volume(self, spec: VolumeSpec, call: Call) -> Volume:
        """Create a volume that reads zeros.

        [vol.zero] No byte of an earlier volume MUST be readable. [vol.same-spec] The same id and
        spec MUST return the same volume, another size `Conflict`. [vol.finish] A half-made volume
        MUST be finished or replaced by the retry, never returned. [vol.size] The size MUST be the
        asked one rounded up to `Traits.size_granularity`. [vol.bounds] A size outside the traits
        MUST give `InvalidArgument` (`LimitExceeded` above the maximum) and create nothing.
        """

    @abstractmethod
    def delete_volume(self, volume: VolumeId, call: Call) -> None:
        """Delete. [vol.delete-granted] A granted volume MUST give `InUse`. [vol.delete-snapshots]
        One with snapshots MUST give `HasDependents` unless `Traits.delete_with_snapshots`.
        """

    @abstractmethod
    def get_volume(self, volume: VolumeId, call: Call) -> Volume:
        """Return the volume as the backend knows it now, or raise `NotFound`."""

    @abstractmethod
    def list_volumes(self, call: Call, *, after: str | None = None, limit: int = 1000) -> Page[Volume]:
        """List *our* volumes. [vol.list-complete] Every volume that exists throughout MUST appear;
        [vol.list-foreign] objects that others made in the pool MUST NOT.
        """


class ManagedPrimaryDriver(PrimaryDriver[O], AccessControl):
    """An array: a volume is a LUN or export of its own."""


class HostPrimaryDriver(PrimaryDriver[O]):
    """A pool that hosts mount: a volume is a file.

    [host.same-place] Each host that mounts the pool MUST find the same bytes at the same location.
    [host.format] The location MUST state the format that the file really has. [host.self-contained]
    A volume's file MUST NOT refer to another one: nobody would open it (CVE-2024-32498).
    """

    @abstractmethod
    def locate_volume(self, volume: VolumeId, call: Call) -> Location:
        """Return where a host that mounts the pool finds the volume, or raise `NotFound`."""
