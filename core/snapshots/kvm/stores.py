"""What the engine asks of a place for snapshots: a directory of qcow2 chains, or an archive."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, Protocol

from ....transfer_objects.enums import DataStoreRole
from ...catalog.snapshots import Ref
from ...dataplane import BlockSink, BlockSource
from ...spi.call import Call
from ...spi.model import Extent


class ChainStore(Protocol):
    """A store of snapshots. Every method can be repeated after any failure."""

    @property
    def id(self) -> str:
        """What refs call it."""

    @property
    def role(self) -> DataStoreRole:
        """Primary or secondary."""

    def reaches(self, other: ChainStore) -> bool:
        """Tell whether an increment here can be based on a snapshot there."""

    def write(
        self,
        chain: Sequence[Link],
        source: BlockSource,
        changed: Iterable[Extent] | None,
        call: Call,
    ) -> Stored:
        """Store the first of `chain`, whose parent the second is, and so on.

        Nothing may be visible under its name before it is whole, durable and read back.

        Args:
            changed: what differs from the parent, sorted, as often as it is iterated; None: a full.
        """

    def look(self, ref: Ref, call: Call) -> Stored | None:
        """Tell what is there, or None. What is visible is whole."""

    def open(self, chain: Sequence[Link], call: Call) -> BlockSource:
        """Open the first of `chain` for reading; raises as `restore`."""

    def restore(self, chain: Sequence[Link], sink: BlockSink, call: Call) -> None:
        """Write the first of `chain` into a new sink that reads as zeros, and flush it.

        Raises:
            DataLoss: a file of the chain is damaged or is not what the records say.
        """

    def take_over(self, chain: Sequence[Link], old_chain: Sequence[Link], call: Call) -> None:
        """Store the first of `chain` here as it is on another store of this kind; a delta stays one.

        Args:
            old_chain: the same, as it lies now.

        Raises:
            Unsupported: the other store is of another kind.
        """

    def relink(self, chain: Sequence[Link], call: Call) -> None:
        """After the second of `chain` has moved: let the first, which has not, name it where it is now."""

    def put_checkpoint(self, ref: Ref, text: str, call: Call) -> str:
        """Keep the hypervisor's own text beside the snapshot, durably; return its path."""

    def checkpoint(self, ref: Ref, call: Call) -> str:
        """Return that text, or raise `NotFound`."""

    def remove(self, ref: Ref, call: Call) -> None:
        """Remove the snapshot and its checkpoint's text; an archive whose listing lags frees space later."""

    def free(self, volume: str, call: Call, *, known: Collection[str]) -> None:
        """Remove what no snapshot of the volume needs: of removed ones, and of killed runs.

        Args:
            known: ids of all snapshots of the volume that this store has, or is to have.
        """


class Stored(NamedTuple):
    """Bytes of a snapshot: as its guest saw them, and on the store."""

    size: int
    physical_size: int


class Link(NamedTuple):
    """One snapshot of a chain, and the store that it is on."""

    ref: Ref
    store: ChainStore
