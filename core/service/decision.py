"""Where a new snapshot goes, and who makes it: one pure function, so that the whole table can be tried.

                 location asked for       where it goes                who makes it
    managed      none, Standard, PRIMARY  stays on the array           the array
    managed      Archive, SECONDARY       array, archive, array freed  the array
    not managed  none, Standard, PRIMARY  archive, pool freed          the pool, else the hypervisor
      idem       idem, and backups off    stays on the pool            idem
    not managed  Archive, SECONDARY       refused                      -

CloudStack archives from a managed pool at once only if the format is VHD, and refuses PRIMARY where nothing
is managed. Here the mover reads raw blocks, whatever a guest or hypervisor has put there, so neither format
nor hypervisor matters; and PRIMARY means Standard, as its first commit had it.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum

from ...transfer_objects.enums import ImageFormat, SnapshotLocation
from ...transfer_objects.errors import DecodeError
from ..spi import Capability, InvalidArgument, Unsupported

_MAX_SHOWN = 64
# Files that hold files: there is no disk in them whose blocks could be kept.
_NO_DISKS = frozenset({ImageFormat.ISO, ImageFormat.TAR, ImageFormat.DIR, ImageFormat.ZIP})
_READABLE = frozenset({Capability.DIRECT_SNAPSHOT_READ, Capability.VOLUME_FROM_SNAPSHOT})


class Goal(StrEnum):
    """Where a snapshot rests in the end."""

    PRIMARY = "primary"
    SECONDARY = "secondary"
    BOTH = "both"

    @property
    def needs_backup(self) -> bool:
        """Tell whether it is copied to secondary storage."""
        return self is not Goal.PRIMARY


class Maker(StrEnum):
    """Who makes the cut."""

    STORAGE = "storage"
    HYPERVISOR = "hypervisor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the decision depends on.

    Attributes:
        able: the pool's effective capabilities.
        hypervisor_cuts: the hypervisor can let the guest write elsewhere while the pool copies the volume.
        backup_to_secondary: `snapshot.backup.to.secondary` at this place.
        keep_on_primary: a copy stays on the pool beside the archived one: the next increment's best base.
    """

    managed: bool
    image_format: ImageFormat
    able: AbstractSet[Capability]
    hypervisor_cuts: bool = False
    backup_to_secondary: bool = True
    keep_on_primary: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The decision. `location` is what the record says: the two words, whatever was typed."""

    location: SnapshotLocation
    goal: Goal
    maker: Maker


def location_of(text: str | None) -> SnapshotLocation | None:
    """Return what a user typed as a location; None for nothing.

    Raises:
        InvalidArgument: naming the word and the valid ones.
    """
    if text is None:
        return None
    try:
        return SnapshotLocation.parse(text)
    except DecodeError as error:
        raise InvalidArgument(f"location {text[:_MAX_SHOWN]!a}: {error.hint or error.rule}") from error


def decide(location: str | None, facts: Facts) -> Plan:
    """Return where a snapshot goes and who makes it.

    Raises:
        InvalidArgument: no such location, Archive where nothing is managed, or no disk.
        Unsupported: nobody here can make it, or read it to bring it where it is to go.
    """
    asked = location_of(location)
    if facts.image_format in _NO_DISKS:
        raise InvalidArgument(
            f"a volume of format {facts.image_format.value} is no disk: it has no snapshots"
        )
    if asked is SnapshotLocation.ARCHIVE and not facts.managed:
        raise InvalidArgument(
            "location Archive is for managed storage only: a Standard snapshot of this volume goes to"
            " secondary storage already"
        )
    goal = _goal(asked, facts)
    return Plan(location=asked or SnapshotLocation.STANDARD, goal=goal, maker=_maker(goal, facts))


def _goal(asked: SnapshotLocation | None, facts: Facts) -> Goal:
    leaves = asked is SnapshotLocation.ARCHIVE if facts.managed else facts.backup_to_secondary
    if not leaves:
        return Goal.PRIMARY
    return Goal.BOTH if facts.keep_on_primary else Goal.SECONDARY


def _maker(goal: Goal, facts: Facts) -> Maker:
    """Prefer the storage; a pool that cannot while a guest writes needs the hypervisor's help."""
    if Capability.SNAPSHOTS not in facts.able and not facts.hypervisor_cuts:
        raise Unsupported("neither the pool nor the hypervisor of the volume can make snapshots now")
    if goal.needs_backup and not _READABLE & facts.able:
        raise Unsupported("the pool can neither read a snapshot nor clone it: it cannot be archived")
    return Maker.STORAGE if Capability.SNAPSHOTS in facts.able else Maker.HYPERVISOR
