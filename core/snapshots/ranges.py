"""A range of an archived snapshot, into whatever can be written: only that range is fetched."""

from __future__ import annotations

from ...transfer_objects.ids import SnapshotId, VolumeId
from ..archive import Archive, ReadOptions
from ..dataplane import BlockSink, copy
from ..dataplane.slice import SourceSlice
from ..spi import Call, Outcome

# Four readers of 16 MiB each see to it that the store is busy; reading ahead would leave the range.
_READ = ReadOptions(cache=64 * 1024**2, read_ahead=0)


def copy_range(
    archive: Archive,
    volume: VolumeId,
    snapshot: SnapshotId,
    sink: BlockSink,
    call: Call,
    *,
    offset: int,
    length: int,
    sink_is_zero: bool = False,
) -> None:
    """Write a range of a snapshot to the start of `sink`, which has `length` bytes, and flush it.

    Raises:
        NotFound: no such snapshot.
        InvalidArgument: the range leaves the image; nothing was written.
        DataLoss: a part is damaged; what was written before was right.
    """

    def over() -> bool:
        call.check(Outcome.UNKNOWN)
        return False

    source = archive.open(call, volume=volume, snapshot=snapshot, options=_READ)
    with source, SourceSlice(source, offset, length) as part:
        copy(part, sink, sink_is_zero=sink_is_zero, progress=call.progress, cancelled=over)
