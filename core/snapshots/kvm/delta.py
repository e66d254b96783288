"""Bringing what has changed from one image to another, and checking that it arrived.

    changed      |   ######      ####   ##|       by the bitmap; None: everything
    source       |   DD--DD      ----   DD|       D data, - reads as zeros
    written      |   DDzzDD      zzzz   DD|       z zeros that must hide what is below

A few MiB at a time by one thread: the NBD client keeps several requests in flight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ...dataplane import BlockSink, BlockSource, compare, copy, runs, split
from ...dataplane.compare import first_difference
from ...spi.call import Call
from ...spi.errors import DataLoss, DeadlineExceeded
from ...spi.model import Extent, ExtentKind

_STEP = 8 * 1024 * 1024


def transfer(source: BlockSource, changed: Iterable[Extent] | None, sink: BlockSink, call: Call) -> None:
    """Write to `sink` what has changed, zeros as zeros; flushed at the end.

    Args:
        changed: sorted; None: `sink` is new and reads as zeros, and gets everything.
    """
    if changed is None:
        copy(source, sink, sink_is_zero=True, progress=call.progress, cancelled=over(call))
        return
    buffer = memoryview(bytearray(min(_STEP, source.size)))
    for piece in _pieces(source, changed):
        call.check()
        if piece.kind is not ExtentKind.DATA:
            sink.zero(piece.offset, piece.length)
            continue
        part = buffer[: piece.length]
        source.read_into(piece.offset, part)
        for start, stop, zero in runs(part):
            if zero:
                sink.zero(piece.offset + start, stop - start)
            else:
                sink.write(piece.offset + start, part[start:stop])
        call.progress(piece.offset + piece.length, source.size)
    sink.flush()


def check(source: BlockSource, changed: Iterable[Extent] | None, written: BlockSource, call: Call) -> None:
    """Read back what `transfer` wrote.

    Raises:
        DataLoss: a byte differs from the source.
    """
    if changed is None:
        different = compare(source, written, cancelled=over(call))
    else:
        different = _first_mismatch(source, changed, written, call)
    if different is not None:
        raise DataLoss(f"what was read back differs from what was written at {different}")


def over(call: Call) -> Callable[[], bool]:
    """Return what tells that a call was cancelled or is late: `copy` itself knows of no deadline."""

    def told() -> bool:
        try:
            call.check()
        except DeadlineExceeded:
            return True
        return False

    return told


def _first_mismatch(
    source: BlockSource, changed: Iterable[Extent], written: BlockSource, call: Call
) -> int | None:
    left, right = (memoryview(bytearray(min(_STEP, source.size))) for _ in range(2))
    for extent in split(changed, _STEP):
        call.check()
        source.read_into(extent.offset, left[: extent.length])
        written.read_into(extent.offset, right[: extent.length])
        position = first_difference(left[: extent.length], right[: extent.length])
        if position is not None:
            return extent.offset + position
    return None


def _pieces(source: BlockSource, changed: Iterable[Extent]) -> Iterator[Extent]:
    for extent in changed:
        yield from split(source.extents(extent.offset, extent.length), _STEP)
