"""What a store check works with: the opened store and a prefix of its own."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from ..core.spi import Call
from ..core.store import Store
from ..simulators.faults.http import HttpProxy
from ..transfer_objects.ids import new_id
from .lab import Notes


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLab:
    """One check's workplace on a secondary store; everything under `prefix` goes afterwards (`leaks.py`).

    Attributes:
        second: opens the store once more, in a driver host of its own; with other options if given.
        proxied: opens it once more through a fault proxy; yields the proxy and the store.
        notes: figures, randomness and the reproducer.
    """

    store: Store
    prefix: str
    second: Callable[..., AbstractContextManager[Store]]
    proxied: Callable[..., AbstractContextManager[tuple[HttpProxy, Store]]]
    notes: Notes

    def call(self, seconds: float = 60.0) -> Call:
        """Return a call with a deadline."""
        return Call.within(seconds)

    def key(self) -> str:
        """Return a fresh key."""
        return f"{self.prefix}/{new_id()}"

    def data(self, size: int) -> bytes:
        """Return bytes that do not compress and are the same in every run."""
        return random.Random(size).randbytes(size)  # noqa: S311 - test data, not a secret

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return (a range of) an object."""
        return b"".join(self.store.get(key, self.call(), offset=offset, length=length))
