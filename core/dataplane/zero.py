"""Finding zeros in memory, fast enough to be free.

Comparing with a kept buffer of zeros is one `memcmp`: 12 GB/s here, against 2.2 for
`bytes.count` and 1.2 for `any`. The left side must be a `bytearray`: it compares any buffer with
`memcmp`, while `memoryview == memoryview` goes byte by byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

GRANULE = 64 * 1024
"""Bytes looked at in one go: a qcow2 cluster, and what most arrays allocate at least."""

ZEROS = memoryview(bytes(1024 * 1024))
"""A MiB of zeros, to write or to copy from."""


@lru_cache(maxsize=8)  # a job uses two lengths: its granule, and the last one of its volume
def _kept(length: int) -> bytearray:
    return bytearray(length)


def is_zero(data: memoryview) -> bool:
    """Tell whether all bytes are zero."""
    if len(data) <= len(ZEROS):
        return _kept(len(data)) == data
    return all(is_zero(data[start : start + len(ZEROS)]) for start in range(0, len(data), len(ZEROS)))


def fill_zeros(buffer: memoryview) -> None:
    """Overwrite a writable buffer with zeros."""
    for start in range(0, len(buffer), len(ZEROS)):
        stop = min(start + len(ZEROS), len(buffer))
        buffer[start:stop] = ZEROS[: stop - start]


def runs(data: memoryview, granule: int = GRANULE) -> Iterator[tuple[int, int, bool]]:
    """Split a buffer into the longest runs of zero and of other granules.

    Args:
        data: the bytes; the last granule may be shorter.
        granule: bytes that are zero or not as a whole.

    Yields:
        (start, stop, zero): positions in `data`, touching, covering all of it.
    """
    begin, state = 0, None
    for start in range(0, len(data), granule):
        zero = is_zero(data[start : start + granule])
        if state is not None and zero is not state:
            yield begin, start, state
            begin = start
        state = zero
    if state is not None:
        yield begin, len(data), state
