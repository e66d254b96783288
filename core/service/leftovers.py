"""What a sweep finds, and how each find ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from ..spi import Call, InUse, StorageError


class End(StrEnum):
    """How a find ended; FOUND: a dry run would have removed it."""

    FOUND = "found"
    REMOVED = "removed"
    KEPT = "kept"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """Something of ours that nobody owns any more.

    Attributes:
        place: the pool, store, host or directory where it lies.
        kind: what it is, such as "temp-clone" or "upload".
        why: how we know that it is ours, and that nobody needs it.
        owner: who made it.
        size: bytes, as far as known.
        age: seconds since it was begun, last moved, or first seen, as far as known.
    """

    place: str
    kind: str
    name: str
    why: str
    owner: str = ""
    size: int | None = None
    age: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """One find and its end; `reason` tells why it was kept, or what failed."""

    leftover: Leftover
    end: End
    reason: str = ""
    error: StorageError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A place that could not be looked at."""

    place: str
    error: StorageError


@dataclass(slots=True, kw_only=True)
class Report:
    """What a sweep did, in the order of the configuration."""

    swept: list[Swept] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def errors(self) -> list[StorageError]:
        """Return all that went wrong, of places and of single finds."""
        of_finds = [one.error for one in self.swept if one.error is not None]
        return [failure.error for failure in self.failures] + of_finds

    def found(self) -> bool:
        """Tell whether anything was removed, or would have been."""
        return any(one.end in (End.FOUND, End.REMOVED) for one in self.swept)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One sweep's manner.

    Attributes:
        older_than: seconds; what has no owner that can be proven dead must be idle for so long.
        clock: seconds since the epoch.
    """

    call: Call
    dry_run: bool
    older_than: float
    clock: Callable[[], float] = time.time

    def end(self, leftover: Leftover, remove: Callable[[], str]) -> Swept:
        """Remove a find unless this is a dry run; `remove` returns why it kept it, "" if it is gone.

        An error ends this find alone: the next one may be on a backend that answers.
        """
        if self.dry_run:
            return Swept(leftover=leftover, end=End.FOUND)
        try:
            kept = remove()
        except InUse as error:
            kept = error.message
        except StorageError as error:
            return Swept(leftover=leftover, end=End.FAILED, reason=error.message, error=error)
        return Swept(leftover=leftover, end=End.KEPT if kept else End.REMOVED, reason=kept)


class Place(Protocol):
    """Where leftovers are looked for."""

    @property
    def name(self) -> str:
        """What reports call it."""

    def sweep(self, run: Run) -> Iterator[Swept]:
        """Yield each find with its end; an error that is raised ends the look at this place alone."""
