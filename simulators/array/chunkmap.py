"""Which slot holds which chunk: a sparse, paged map whose copies share pages until one side changes them.

::

    chunk 0..255   -> page 0 -> [7, 8, 0, ...]      0 = unmapped, reads as zeroes
    chunk 256..511 -> (no page)                      wholly unmapped
    chunk 512..767 -> page 2 -> [9, 0, 0, ...]       shared with a snapshot: copied before a change
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

PAGE = 256  # chunks per page: 16 MiB of volume, 1 KiB of map; a first write after a snapshot copies that much

_EMPTY = array("I", [0] * PAGE)


class Run(NamedTuple):
    """Chunks in a row that lie in slots in a row (``slot`` 0: all unmapped)."""

    chunk: int
    number: int
    slot: int


class ChunkMap:
    """Chunk index to slot. Not thread-safe: a volume's lock guards it; a snapshot's map never changes."""

    def __init__(self, pages: Iterable[tuple[int, bytes]] = ()) -> None:
        self._pages = {number: array("I", slots) for number, slots in pages}
        self._shared = set[int]()
        self.dirty = set[int]()

    def copy(self) -> ChunkMap:
        """An equal map that shares the pages; changes on either side stay there."""
        other = ChunkMap()
        other._pages = dict(self._pages)
        self._shared = set(self._pages)
        other._shared = set(self._pages)
        return other

    def __getitem__(self, chunk: int) -> int:
        page = self._pages.get(chunk // PAGE)
        return page[chunk % PAGE] if page is not None else 0

    def __setitem__(self, chunk: int, slot: int) -> None:
        number = chunk // PAGE
        page = self._pages.get(number, _EMPTY)
        if page is _EMPTY or number in self._shared:
            page = self._pages[number] = page[:]
            self._shared.discard(number)
        page[chunk % PAGE] = slot
        self.dirty.add(number)

    def pages(self) -> list[int]:
        """The numbers of the pages that exist."""
        return sorted(self._pages)

    def page(self, number: int) -> array[int]:
        """The slots of a page; not to be changed."""
        return self._pages.get(number, _EMPTY)

    def page_bytes(self, number: int) -> bytes:
        """One page as it is stored; empty when nothing in it is mapped."""
        page = self.page(number)
        return b"" if page == _EMPTY else page.tobytes()

    def slots(self) -> list[int]:
        """Every slot in use, in chunk order."""
        pages = (self._pages[number] for number in sorted(self._pages))
        return [slot for slot in chain.from_iterable(pages) if slot]

    def mapped(self, first: int, end: int) -> list[int]:
        """The mapped chunks of a range; costs nothing for pages that do not exist."""
        low, high = first // PAGE, (end - 1) // PAGE
        if high - low < len(self._pages):
            numbers = [n for n in range(low, high + 1) if n in self._pages]
        else:
            numbers = sorted(n for n in self._pages if low <= n <= high)
        found = (n * PAGE + i for n in numbers for i, slot in enumerate(self._pages[n]) if slot)
        return [chunk for chunk in found if first <= chunk < end]

    def runs(self, first: int, end: int) -> Iterator[Run]:
        """The chunks of a range as maximal runs, in order."""
        chunk, count, slot = first, 0, 0
        for piece in self._pieces(first, end):
            follows = piece.slot == (slot + count if slot else 0)
            if count and follows:
                count += piece.number
                continue
            if count:
                yield Run(chunk, count, slot)
            chunk, count, slot = piece
        if count:
            yield Run(chunk, count, slot)

    def _pieces(self, first: int, end: int) -> Iterator[Run]:
        """Single chunks where a page exists, whole stretches where none does."""
        chunk = first
        while chunk < end:
            stop = min(end, (chunk // PAGE + 1) * PAGE)
            page = self._pages.get(chunk // PAGE)
            if page is None:
                yield Run(chunk, stop - chunk, 0)
            else:
                base = chunk - chunk % PAGE
                for at in range(chunk, stop):
                    yield Run(at, 1, page[at - base])
            chunk = stop

    def differences(self, base: ChunkMap | None, first: int, end: int) -> Iterator[tuple[int, bool]]:
        """Chunks of a range that differ from ``base``: (chunk, is unmapped here), in order.

        Exact, because a slot that two maps share is never written: equal slots are equal bytes.
        """
        before = base or ChunkMap()
        for number in sorted({*self.pages(), *before.pages()}):
            if not first // PAGE <= number <= (end - 1) // PAGE:
                continue
            new, old = self.page(number), before.page(number)
            if new is old or new == old:
                continue
            for index, slot in enumerate(new):
                chunk = number * PAGE + index
                if slot != old[index] and first <= chunk < end:
                    yield chunk, not slot
