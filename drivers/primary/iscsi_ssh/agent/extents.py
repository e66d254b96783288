"""What differs between two files of one reflink file system, from their extent maps (FIEMAP).

Two ranges on the same blocks hold the same bytes: a block that two files share is never written in place.
The reverse does not hold (a block may be rewritten with what it had): the answer may be too much, never too
little.

    base      |AAAA|BBBB|    |CCCC|        data on blocks A, B, C
    target    |AAAA|DDDD|EEEE|    |
    changed          data data zero
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

_FIEMAP = 0xC020660B  # <linux/fs.h>, <linux/fiemap.h>
_SYNC = 1
_LAST, _UNKNOWN, _DELAYED, _ENCODED, _NOT_ALIGNED = 0x1, 0x2, 0x4, 0x8, 0x100
_INLINE, _TAIL, _UNWRITTEN, _SHARED = 0x200, 0x400, 0x800, 0x2000
_UNTELLING = _UNKNOWN | _DELAYED | _ENCODED | _NOT_ALIGNED | _INLINE | _TAIL
_HEADER, _EXTENT = struct.Struct("=QQLLLL"), struct.Struct("=QQQQQLLLL")
_BATCH = 4096  # extents per question

DATA, HOLE = "data", "hole"
Found = list[tuple[int, int, str]]


@dataclass(frozen=True)
class _Run:
    """Bytes from `start` to `end`, on the blocks from `physical` on; None: their place says nothing."""

    start: int
    end: int
    physical: int | None

    def at(self, position: int) -> int | None:
        return None if self.physical is None else self.physical + position - self.start


_NOTHING_MORE = _Run(2**63, 2**63, None)


def changes(base: Path | None, target: Path, start: int, limit: int) -> tuple[Found, int | None]:
    """Return (offset, length, "data" or "hole") from the first extent that ends behind `start`.

    Args:
        base: None: return what `target` has data in.
        target: the later file.
        start: bytes.
        limit: extents; if there are more, the second value says where to go on.
    """
    found: Found = []
    with ExitStack() as stack:
        new = os.open(target, os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, new)
        old = None
        if base is not None:
            old = os.open(base, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, old)
        for offset, end, kind in _merged(_differences(old, new)):
            if end <= start:
                continue
            if len(found) == limit:
                return found, offset
            found.append((offset, end - offset, kind))
    return found, None


def shared(file: Path) -> int:
    """Return the bytes that a file has in common with others: a write to them takes space."""
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return sum(length for _, _, length, kind in _extents(descriptor) if kind & _SHARED)
    finally:
        os.close(descriptor)


def _merged(pieces: Iterator[tuple[int, int, str]]) -> Iterator[tuple[int, int, str]]:
    present: tuple[int, int, str] | None = None
    for piece in pieces:
        if present is not None and (present[1], present[2]) == (piece[0], piece[2]):
            present = (present[0], piece[1], piece[2])
            continue
        if present is not None:
            yield present
        present = piece
    if present is not None:
        yield present


def _differences(old: int | None, new: int) -> Iterator[tuple[int, int, str]]:
    """Walk both maps at once; yield (start, end, kind) of each piece that may differ."""
    size = os.fstat(new).st_size
    before, after = _runs(old) if old is not None else iter(()), _runs(new)
    a, b, position = next(before, _NOTHING_MORE), next(after, _NOTHING_MORE), 0
    while position < size:
        while a.end <= position:
            a = next(before, _NOTHING_MORE)
        while b.end <= position:
            b = next(after, _NOTHING_MORE)
        end = min(size, *(run.end if run.start <= position else run.start for run in (a, b)))
        kind = _kind(a, b, position)
        if kind:
            yield position, end, kind
        position = end


def _kind(a: _Run, b: _Run, position: int) -> str:
    """Return how the target differs from the base at a position; "" where it does not."""
    was, is_ = a.start <= position, b.start <= position
    if was and is_:
        here = b.at(position)
        return "" if here is not None and here == a.at(position) else DATA
    if is_:
        return DATA
    return HOLE if was else ""


def _runs(descriptor: int) -> Iterator[_Run]:
    """Yield the ranges with data, in order; what is reserved and not written reads as zeros, like a hole."""
    for logical, physical, length, kind in _extents(descriptor):
        if not kind & _UNWRITTEN:
            yield _Run(logical, logical + length, None if kind & _UNTELLING else physical)


def _extents(descriptor: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (logical, physical, length, flags) of a file's extents, in order."""
    buffer, position = bytearray(_HEADER.size + _BATCH * _EXTENT.size), 0
    while True:
        flags = _SYNC if position == 0 else 0
        _HEADER.pack_into(buffer, 0, position, 2**64 - 1 - position, flags, 0, _BATCH, 0)
        fcntl.ioctl(descriptor, _FIEMAP, buffer)
        count = _HEADER.unpack_from(buffer)[3]
        shown = memoryview(buffer)[_HEADER.size : _HEADER.size + count * _EXTENT.size]
        for logical, physical, length, _, _, kind, *_ in list(_EXTENT.iter_unpack(shown)):
            position = logical + length
            yield logical, physical, length, kind
            if kind & _LAST:
                return
        if not count:
            return
