"""What archiving asks of the primary storage: only what holds data is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

from ...core.archive import Archive
from ...core.dataplane import BlockSource
from ...core.spi import Extent, Snapshots
from ..lab import MIB, Lab, must
from ..model import Level, Tier
from ..registry import check


@dataclass(slots=True)
class _Tally:
    """Bytes that were read, over all connections; list.append is atomic."""

    lengths: list[int] = field(default_factory=list)


class _Counted:
    """A source that counts what is read through it."""

    def __init__(self, source: BlockSource, tally: _Tally) -> None:
        self._source = source
        self._tally = tally
        self.size = source.size

    def clone(self) -> Self:
        return type(self)(self._source.clone(), self._tally)

    def close(self) -> None:
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        return self._source.extents(offset, length)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self._tally.lengths.append(len(buffer))
        self._source.read_into(offset, buffer)


@check(
    "arc.source_reads_only_extents",
    rule="snap.point-in-time",
    needs=(Snapshots,),
    level=Level.SHOULD,
    tier=Tier.STANDARD,
    field_bug="Launchpad 1918119: 5.5 hours for a nearly empty 8 TiB volume",
)
def check_source_reads_only_extents(lab: Lab) -> None:
    """Archiving a nearly empty snapshot reads little more than what was written.

    A failure means that the location cannot tell holes from data (a LUN without GET LBA STATUS, an NBD
    export without base:allocation): every backup then reads the whole virtual size.
    """
    volume = lab.volume(128 * MIB)
    lab.write(volume, 1, length=4 * MIB)
    snapshot, tally = lab.snapshot(volume.id), _Tally()
    with lab.mover.reading_snapshot(lab.pool, snapshot.id) as source:
        counted = _Counted(source, tally)
        Archive(lab.archive_store).create(counted, lab.call(), volume=volume.id, snapshot=snapshot.id)
    read = sum(tally.lengths)
    lab.notes.measure("bytes read per byte of volume", read / volume.size, "")
    must(0 < read <= volume.size // 4, f"4 MiB of {volume.size} bytes hold data, {read} bytes were read")
