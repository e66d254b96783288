"""What an NBD server serves: exports, and who decides about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol

from .protocol import MIN_BLOCK


class Extent(NamedTuple):
    """A run of bytes that is either data or a hole which reads as zeroes."""

    length: int
    data: bool


class Backend(Protocol):
    """What an export reads and writes. OSErrors reach the client (ENOSPC, EIO...).

    Several connections may call at the same time. Offsets and lengths are bytes within ``size()``.
    """

    def size(self) -> int:
        """Bytes; asked for at each request, so that a resize counts at once."""

    def read(self, offset: int, into: memoryview) -> None:
        """Fill the buffer from ``offset``."""

    def write(self, offset: int, data: memoryview) -> None:
        """Store the bytes; they need to be durable only after :meth:`flush`."""

    def zero(self, offset: int, length: int) -> None:
        """Make the range read as zeroes, giving its space back."""

    def flush(self) -> None:
        """Return when everything acknowledged before is durable."""

    def extents(self, offset: int, length: int) -> Iterable[Extent]:
        """Runs that cover the range exactly, in order."""

    def close(self) -> None:
        """The connection ended (once per :meth:`Exports.open`)."""


def _no_wait(_length: int) -> float:
    return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What :meth:`Exports.open` hands out for one connection.

    Attributes:
        block: bytes that offsets and lengths are multiples of; a power of two.
        parallel: reads of one connection that are served at once. Above 1 the export must be read-only: the
            order of reads and writes would be anybody's guess.
        throttle: told the bytes of each read or write, answers the seconds to wait first (QoS).
    """

    backend: Backend
    read_only: bool = False
    block: int = MIN_BLOCK
    parallel: int = 1
    throttle: Callable[[int], float] = _no_wait


class Exports(Protocol):
    """Finds exports by name; this is where access is decided."""

    def open(self, name: str) -> Export | None:
        """The export, or None for "unknown" (also when access is denied)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A connection in its transmission phase."""

    id: str
    export_name: str = field(repr=False)  # may carry a proof of a secret
    peer: str
    read_only: bool
    since: datetime
