"""Limits and manners of a driver: what a mix-in cannot express. The suite tests each both ways."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .errors import InvalidArgument, LimitExceeded

GIB = 1024**3
TIB = 1024**4


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """Limits of a primary driver; sizes in bytes, times in seconds.

    Attributes:
        size_granularity: sizes are rounded up to a multiple of this; `Volume.size` tells the result.
        sector_size: logical sector that the host sees.
        snapshot_while_attached: False if a volume must be detached (or its VM stopped) first.
        revert_while_attached: idem for revert.
        revert_keeps_newer: snapshots newer than the one reverted to survive.
        delete_with_snapshots: a volume with snapshots may be deleted (they go with it); else
            `HasDependents`.
        clone_depends_on_source: a clone keeps its source from being deleted.
        multi_attach: a volume may be granted writable to more than one host.
        space_freed_within: deletion shows in `capacity` after at most this many seconds.
        concurrent_calls: False: core serialises calls on one driver instance.
    """

    min_size: int = 512
    max_size: int = 64 * TIB
    size_granularity: int = 512
    sector_size: int = 512
    snapshot_while_attached: bool = True
    revert_while_attached: bool = False
    revert_keeps_newer: bool = True
    delete_with_snapshots: bool = False
    clone_depends_on_source: bool = False
    multi_attach: bool = False
    max_snapshots_per_volume: int | None = None
    space_freed_within: float = 0.0
    concurrent_calls: bool = True

    def rounded(self, size: int) -> int:
        """Return the bytes that a volume of `size` gets: what [vol.size] and [vol.bounds] ask for.

        Raises:
            InvalidArgument: below `min_size`.
            LimitExceeded: above `max_size`.
        """
        if size < self.min_size:
            raise InvalidArgument(f"size must be at least {self.min_size} bytes here, got {size}")
        if size > self.max_size:
            raise LimitExceeded(f"size must be at most {self.max_size} bytes here, got {size}")
        return -(-size // self.size_granularity) * self.size_granularity


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreTraits:
    """Manners of a secondary store.

    Attributes:
        conditional_put: `put(if_absent=True)` is atomic on the store. Where it is not, the archive
            falls back to unique names, never to "check, then write".
        max_object_size: bytes; larger bodies are refused before anything is sent.
        listing_consistent: a key is listed as soon as it was put. Nothing relies on it; collect
            waits longer where it is False.
    """

    conditional_put: bool
    max_object_size: int
    listing_consistent: bool


class FoundBy(StrEnum):
    """How a driver knows a trait of its store."""

    PROBED = "probed"
    """The store was asked, or tried out."""

    CONFIGURED = "configured"
    """An option says so, and nobody looked."""

    DOCUMENTED = "documented"
    """The standard or the vendor says so; it cannot be tried out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundTrait:
    """One trait of a store as `bollard store probe` shows it.

    Attributes:
        name: of a field of `StoreTraits`, or the driver's own.
        value: sizes in bytes; None: the store does not say.
        how: what was done to find out, or who says so.
    """

    name: str
    value: bool | int | str | None
    found_by: FoundBy
    how: str
