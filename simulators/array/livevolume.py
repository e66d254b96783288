"""A volume's bytes: reads and writes through its chunk map, copy-on-write, thin.

::

    write ─┬─ chunk's slot is ours alone ──────────▶ in place
           ├─ unmapped or shared ──▶ new slot, whole 64 KiB written, then the map points to it
           └─ a whole chunk of zeroes ────────────▶ unmapped

Changes of the map live in memory until the store commits them (flush, disconnect, snapshot). Slots that the
map dropped stay reserved until then, see :mod:`.slots`.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator

from ...core.nbd_server import Extent
from .chunkmap import ChunkMap, Run
from .limiter import Limiter
from .slots import CHUNK, SlotPool

_ZEROES = bytes(CHUNK)


class LiveVolume:
    """The bytes of one volume.

    Attributes:
        lock: held for each read and write, and by the store while it copies or commits the map.
        dropped: slots that the map no longer uses but the committed map may.
        shares_blocks: writes go in place even when others share the slot; only defects set it.
    """

    def __init__(self, volume_id: str, size: int, chunks: ChunkMap, pool: SlotPool) -> None:
        self.id = volume_id
        self.size = size
        self.chunks = chunks
        self.pool = pool
        self.lock = threading.Lock()
        self.dropped: list[int] = []
        self.deleted = False
        self.shares_blocks = False
        self.limiter = Limiter()

    def read(self, offset: int, into: memoryview) -> None:
        """Fill the buffer; unmapped chunks are zeroes."""
        end = offset + len(into)
        with self.lock:
            self._must_live()
            for run in self.chunks.runs(offset // CHUNK, -(-end // CHUNK)):
                start, stop = max(offset, run.chunk * CHUNK), min(end, (run.chunk + run.number) * CHUNK)
                part = into[start - offset : stop - offset]
                if run.slot:
                    self.pool.read(run.slot, start - run.chunk * CHUNK, part)
                else:
                    part[:] = bytes(len(part))

    def write(self, offset: int, data: memoryview) -> None:
        """Store the bytes. Raises OSError ENOSPC when the pool is full; a part may have landed by then."""
        with self.lock:
            self._must_live()
            while data:
                chunk, within = divmod(offset, CHUNK)
                if within or len(data) < CHUNK:
                    length = min(CHUNK - within, len(data))
                    self._write_part(chunk, within, data[:length])
                else:
                    length = len(data) - len(data) % CHUNK
                    self._write_whole(chunk, data[:length])
                offset, data = offset + length, data[length:]

    def zero(self, offset: int, length: int) -> None:
        """Unmap the whole chunks of the range, write zeroes to the rest where something is mapped."""
        end = offset + length
        with self.lock:
            self._must_live()
            for chunk in self.chunks.mapped(offset // CHUNK, -(-end // CHUNK)):
                start, stop = max(offset, chunk * CHUNK), min(end, (chunk + 1) * CHUNK)
                if start == chunk * CHUNK and stop == min(self.size, start + CHUNK):
                    self._point(chunk, 0)
                else:
                    self._write_part(chunk, start % CHUNK, memoryview(_ZEROES)[: stop - start])

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """Data and holes of the range, neighbours of a kind joined."""
        end = offset + length
        with self.lock:
            runs = list(self.chunks.runs(offset // CHUNK, -(-end // CHUNK)))
        return _join(runs, offset, end)

    def allocated_bytes(self) -> int:
        """Bytes of slots that the map uses, shared ones included."""
        with self.lock:
            return len(self.chunks.slots()) * CHUNK

    def drop_everything(self) -> list[int]:
        """The volume is gone: every slot it held, for the store to release."""
        with self.lock:
            held = self.chunks.slots() + self.dropped
            self.chunks, self.dropped, self.deleted = ChunkMap(), [], True
            return held

    def _must_live(self) -> None:
        if self.deleted:
            raise OSError(errno.EIO, "the volume is deleted")

    def _ours(self, slot: int) -> bool:
        return bool(slot) and (self.pool.references(slot) == 1 or self.shares_blocks)

    def _point(self, chunk: int, slot: int) -> None:
        old = self.chunks[chunk]
        if old != slot:
            self.chunks[chunk] = slot
            if old:
                self.dropped.append(old)

    def _write_part(self, chunk: int, within: int, data: memoryview) -> None:
        slot = self.chunks[chunk]
        if self._ours(slot):
            self.pool.write(slot, within, data)
            return
        if not slot and _is_zero(data):
            return
        whole = bytearray(CHUNK)
        if slot:
            self.pool.read(slot, 0, memoryview(whole))
        whole[within : within + len(data)] = data
        self._place(chunk, memoryview(whole), [chunk])

    def _write_whole(self, first: int, data: memoryview) -> None:
        """Whole chunks: zeroes are unmapped, the rest is written in as few calls as the slots allow."""
        fresh: list[int] = []
        for index in range(len(data) // CHUNK):
            if _is_zero(data[index * CHUNK : (index + 1) * CHUNK]):
                self._point(first + index, 0)
            elif not self._ours(self.chunks[first + index]):
                fresh.append(first + index)
        self._place(first, data, fresh)

    def _place(self, first: int, data: memoryview, fresh: list[int]) -> None:
        """Write whole chunks, those in ``fresh`` to new slots; the map follows once the bytes are there."""
        slots = dict(zip(fresh, self.pool.allocate(len(fresh)), strict=True))
        try:
            self._write_runs(first, data, slots)
        except OSError:
            self.pool.release(slots.values())
            raise
        for chunk, slot in slots.items():
            self._point(chunk, slot)

    def _write_runs(self, first: int, data: memoryview, fresh: dict[int, int]) -> None:
        index, total = 0, len(data) // CHUNK
        while index < total:
            slot = fresh.get(first + index) or self.chunks[first + index]
            stop = index + 1
            while stop < total and slot:
                following = fresh.get(first + stop) or self.chunks[first + stop]
                if following != slot + stop - index:
                    break
                stop += 1
            if slot:
                self.pool.write(slot, 0, data[index * CHUNK : stop * CHUNK])
            index = stop


def _is_zero(data: memoryview) -> bool:
    # Most chunks of real data betray themselves at an end; comparing a whole one costs a copy (10 us).
    return not data[0] and not data[-1] and data.tobytes() == _ZEROES[: len(data)]


def _join(runs: list[Run], offset: int, end: int) -> Iterator[Extent]:
    length, data = 0, False
    for run in runs:
        size = min(end, (run.chunk + run.number) * CHUNK) - max(offset, run.chunk * CHUNK)
        if length and bool(run.slot) != data:
            yield Extent(length, data)
            length = 0
        length, data = length + size, bool(run.slot)
    if length:
        yield Extent(length, data)
