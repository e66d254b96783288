"""Intents: written before the act, removed after the undo; what keeps them knows whether their owner lives.

begin ── act ── undo ── done           abandoned ── undo ── done
           └ kill -9 ──────────────────────┘ by anybody, once the owner is provably dead
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(slots=True, kw_only=True)
class Entry(ABC):
    """One intent. Hold it open while its objects may exist; `done()` when they are gone.

    Attributes:
        began: when, in seconds since the epoch.
        owner: who began it, for people.
    """

    kind: str
    fields: Mapping[str, str]
    began: float
    owner: str

    @abstractmethod
    def done(self) -> None:
        """Remove the entry: nothing that it names exists any more. Repeatable."""

    @abstractmethod
    def complete(self) -> None:
        """Remove the entry of an act whose result is to stay: else the next sweep takes it for half done.

        Raises:
            Conflict: others have taken it for dead and ended it; what there is now is theirs.
            StorageError: that cannot be noted; the entry stays, and the result is not to be relied on.
        """

    @abstractmethod
    def release(self) -> None:
        """Let go of the entry without removing it: a sweep may now finish it. Repeatable."""


class Intents(Protocol):
    """What keeps intents: `Journal` those of one machine's processes, `CatalogJournal` those of a fleet's."""

    def begin(self, kind: str, **fields: str) -> Entry:
        """Make an intent durable; nothing that it names may exist before this returns."""

    def replace(self, entry: Any, kind: str, **fields: str) -> None:
        """Turn an intent of this process into another one, in a single step."""

    def abandoned(self) -> Iterator[Entry]:
        """Yield the entries whose owners are dead, oldest first; each is ours until it is released."""

    def named(self, field: str, **like: str) -> set[str]:
        """Return what `field` is in the entries, of the living and the dead, whose other fields are these."""

    def claim(self, entry: Any) -> Entry | None:
        """Take an entry that was let go of in hand again; None: somebody else has it, or has ended it."""

    def deciding(self, fields: Mapping[str, str]) -> AbstractContextManager[None]:
        """Keep everybody else from beginning or ending anything with `fields`."""

    def others_hold(self, entry: Any, kinds: Collection[str]) -> bool:
        """Tell whether somebody living holds another entry of these kinds for the same object.

        True as well if others have taken this very entry: then nothing of its object is ours to undo.
        """
