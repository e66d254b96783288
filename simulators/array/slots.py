"""The slots of a pool: one sparse file of 64 KiB pieces, counted references, lowest free slot first.

::

    data file   | slot 1 | slot 2 | slot 3 | ...      slot n begins at (n - 1) * 64 KiB; 0 is "unmapped"
    references      2        0        1                   from the maps; recounted at start, never stored

A slot is given back only after the change that dropped it is durable: reused earlier, a crash would bring
back a map that points to another volume's bytes.
"""

from __future__ import annotations

import errno
import heapq
import os
import threading
from array import array
from collections.abc import Iterable
from pathlib import Path

CHUNK = 64 * 1024


class SlotPool:
    """Allocates, counts and moves slots.

    Args:
        path: the data file; made when missing.
        capacity: bytes that may be in use at once; more is ENOSPC.
    """

    def __init__(self, path: Path, capacity: int) -> None:
        self.capacity = capacity
        self._limit = capacity // CHUNK
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._lock = threading.Lock()
        self._references = array("I", [0])
        self._free: list[int] = []
        self._used = 0

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    @property
    def used_bytes(self) -> int:
        """Bytes of slots that somebody refers to."""
        return self._used * CHUNK

    def references(self, slot: int) -> int:
        """How many maps use the slot."""
        return self._references[slot]

    def retain(self, slots: Iterable[int]) -> None:
        """One more reference to each slot (also of a map that is loaded at start)."""
        with self._lock:
            for slot in slots:
                if slot >= len(self._references):
                    self._references.extend([0] * (slot + 1 - len(self._references)))
                self._used += not self._references[slot]
                self._references[slot] += 1

    def release(self, slots: Iterable[int]) -> None:
        """One reference less to each slot; the last one frees it."""
        with self._lock:
            for slot in slots:
                self._references[slot] -= 1
                if not self._references[slot]:
                    self._used -= 1
                    heapq.heappush(self._free, slot)

    def collect(self) -> None:
        """Once, after every map was loaded: what nobody refers to is free."""
        with self._lock:
            self._free = [slot for slot, count in enumerate(self._references) if slot and not count]

    def allocate(self, number: int) -> list[int]:
        """So many slots with one reference each; their bytes are old until written.

        Raises:
            OSError: ENOSPC, and nothing is allocated.
        """
        with self._lock:
            if self._used + number > self._limit:
                raise OSError(errno.ENOSPC, "the pool is full")
            reused = [heapq.heappop(self._free) for _ in range(min(number, len(self._free)))]
            first = len(self._references)
            self._references.extend([0] * (number - len(reused)))
            slots = [*reused, *range(first, len(self._references))]
            for slot in slots:
                self._references[slot] = 1
            self._used += number
            return slots

    def allocate_reused(self, most: int) -> list[int]:
        """Up to so many slots that held data before; only a defect wants them unwritten."""
        return self.allocate(min(most, len(self._free)))

    def read(self, slot: int, within: int, into: memoryview) -> None:
        """Fill the buffer from a run of slots that begins at ``slot``, ``within`` bytes into it."""
        offset = (slot - 1) * CHUNK + within
        while into:
            done = os.preadv(self._file, [into], offset)
            if not done:
                raise OSError(errno.EIO, "the data file is shorter than its map")
            into, offset = into[done:], offset + done

    def write(self, slot: int, within: int, data: memoryview) -> None:
        """Write to a run of slots that begins at ``slot``, ``within`` bytes into it."""
        offset = (slot - 1) * CHUNK + within
        while data:
            done = os.pwrite(self._file, data, offset)
            data, offset = data[done:], offset + done
