"""From the archive to a block sink: windows in parallel, each complete and checked before it is written.

parts, oldest first ──digest, CRC, SHA256SUMS──> buffer of one window ──window digest──> sink
                                                                         data: write
                                                                         zero: zero, stays sparse
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..dataplane.api import BlockSink
from ..dataplane.zero import fill_zeros, runs
from ..spi.call import Call
from ..spi.errors import DataLoss, InvalidArgument
from .digest import granule_hash, window_digest
from .fetch import fetch_part, region_of
from .manifest import Manifest, Window
from .parallel import Lanes, Workers, run
from .part import MAX_FRAME
from .store import Store

# A hole costs nothing to restore; in steps, so that cancelling stays prompt where zeroing means writing.
_ZERO_STEP = 1024**3


class Piece(NamedTuple):
    """A range of the image, in bytes, that lies in one window, or in none: then it is zero."""

    offset: int
    length: int
    window: Window | None


def pieces(manifest: Manifest, offset: int, length: int) -> Iterator[Piece]:
    """Yield pieces that cover a range of the image."""
    position, end = offset, offset + length
    for window in manifest.windows:
        start = max(window.offset, offset)
        stop = min(window.offset + manifest.length_of(window), end)
        if start < stop:
            yield from _zeros(position, start)
            yield Piece(start, stop - start, window)
            position = stop
    yield from _zeros(position, end)


def _zeros(start: int, end: int) -> Iterator[Piece]:
    for offset in range(start, end, _ZERO_STEP):
        yield Piece(offset, min(_ZERO_STEP, end - offset), None)


def assemble(store: Store, manifest: Manifest, window: Window, buffer: memoryview, call: Call) -> None:
    """Put a window together in `buffer` and check it at every level.

    Raises:
        DataLoss: naming the part, or the window if the parts are good but do not add up.
    """
    region = region_of(manifest, window)
    fill_zeros(buffer)
    for ref in window.parts:
        call.check()
        part = fetch_part(store, manifest.key_of(window, ref), ref.size, ref.sha256, region, call)
        for member in part.members():
            start = member.offset - window.offset
            target = buffer[start : start + member.length]
            if member.data is None:
                fill_zeros(target)
            else:
                target[:] = member.data
    granules = (buffer[i : i + region.granule] for i in range(0, region.length, region.granule))
    if window_digest(b"".join(granule_hash(g, region.granule) for g in granules)) != window.digest:
        name = f"{manifest.volume}/{manifest.snapshot}"
        raise DataLoss(f"the window at {window.offset} of {name} does not have the digest of the manifest")


def restore(
    store: Store,
    manifest: Manifest,
    sink: BlockSink,
    call: Call,
    *,
    offset: int = 0,
    length: int | None = None,
    sink_is_zero: bool = False,
    workers: Workers,
) -> None:
    """Write an image, or a range of it, to the same place in `sink`, and flush it.

    What the sink has behind the image stays as it is.

    Args:
        offset: where the range begins, in bytes; `length`: None means to the end.
        sink_is_zero: the sink is new and reads as zeros, so zeros need not be written.

    Raises:
        InvalidArgument: the range leaves the image, or the sink is too small; nothing was written.
        DataLoss: naming the part; windows written before were right.
    """
    length = manifest.size - offset if length is None else length
    if offset < 0 or length < 0 or offset + length > manifest.size:
        raise InvalidArgument(
            f"the range {offset}+{length} is outside of the {manifest.size} bytes of the image"
        )
    if offset + length > sink.size:
        raise InvalidArgument(f"the target has {sink.size} bytes, the range ends at {offset + length}")
    size = min(manifest.window_size, manifest.size)
    limit = workers.limit(2 * manifest.window_size)  # the window, and the part that is being applied to it
    finished = 0

    def done(count: int) -> None:
        nonlocal finished
        finished += count
        call.progress(finished, length)

    with Lanes(sink, limit, size) as lanes:

        def work(piece: Piece, inner: Call) -> int:
            with lanes.take() as lane:
                _write(store, manifest, piece, lane.connection, lane.buffer, inner, skip_zeros=sink_is_zero)
            return piece.length

        run(work, pieces(manifest, offset, length), done, limit=limit, workers=workers, call=call)
    sink.flush()


def _write(
    store: Store,
    manifest: Manifest,
    piece: Piece,
    sink: BlockSink,
    buffer: memoryview,
    call: Call,
    *,
    skip_zeros: bool,
) -> None:
    spans: Iterator[tuple[int, int, bool]] = iter([(0, piece.length, True)])
    view = buffer
    if piece.window:
        window = buffer[: manifest.length_of(piece.window)]
        assemble(store, manifest, piece.window, window, call)
        start = piece.offset - piece.window.offset
        view = window[start : start + piece.length]
        spans = runs(view, manifest.granule)
    for start, stop, zero in spans:
        call.check()
        if not zero:
            for begin in range(start, stop, MAX_FRAME):
                end = min(begin + MAX_FRAME, stop)
                sink.write(piece.offset + begin, view[begin:end])
        elif not skip_zeros:
            sink.zero(piece.offset + start, stop - start)
