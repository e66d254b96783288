"""Which frame of which part holds which granule of a window; known from the ends of the parts alone.

    granule       0    1    2    3    4    5
    oldest part  [a-------------------]    .       members, at most 4 MiB each
    newest part   .   [b-------]   .   [z] .       z: a member that says "zeros"
    HASHES        h0   h1   h2   h3   -    -       of the newest part; they add up to the window's digest
    owners        a    b    b    a    -    -

A frame is fetched with one ranged GET, and given out only for the granules that it owns, once each has the
hash that the manifest vouches for: wrong bytes are found wherever they come from, without reading a part
as a whole.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from ..spi.call import Call
from ..spi.errors import DataLoss, InvalidArgument, NotFound
from .digest import HASH, ZERO, granule_hash, window_digest
from .fetch import Remote, region_of
from .manifest import Manifest, PartRef, Window
from .packing import PackingError, unpack
from .part import MAX_FRAME, Part, Region, member_of
from .store import Store

_LOCAL_HEADER = struct.Struct("<26xHH")  # lengths of the name and of the extra field that follow it
_MAX_HEADER = _LOCAL_HEADER.size + 2 * 0xFFFF
# What deflate (version 1) makes of data that it cannot shrink: 5 bytes for each 16 KiB, and a little.
_MAX_COMPRESSED = MAX_FRAME + MAX_FRAME // 1024


class Frame(NamedTuple):
    """A member of a part on the store.

    Attributes:
        key: of the part; `start` and `end`: the member's bytes in it, local header included.
        offset: its place in the volume, `length` bytes when unpacked.
        method: how it is compressed, as ZIP numbers it; `compressed` in bytes.
    """

    key: str
    start: int
    end: int
    offset: int
    length: int
    method: int
    compressed: int


class Range(NamedTuple):
    """Bytes `start` to `stop` of the volume that come from one frame; None: they are zeros."""

    start: int
    stop: int
    frame: Frame | None


@dataclass(frozen=True, slots=True)
class Directory:
    """The end of a part: its members as (first granule, granules, frame; None: zeros), and HASHES."""

    members: tuple[tuple[int, int, Frame | None], ...]
    hashes: bytes


@dataclass(frozen=True, slots=True)
class WindowIndex:
    """A window: the hash of each granule, and the frame that has its bytes."""

    region: Region
    hashes: bytes
    owners: tuple[Frame | None, ...]

    def ranges(self, start: int, stop: int) -> Iterator[Range]:
        """Yield touching ranges that cover `start` to `stop`, positions in the volume."""
        region = self.region
        first = (start - region.offset) // region.granule
        last = -(-(stop - region.offset) // region.granule)
        position = start
        for frame, run in groupby(range(first, last), key=self.owners.__getitem__):
            *_, index = run
            end = min(region.offset + (index + 1) * region.granule, stop)
            yield Range(position, end, frame)
            position = end

    def check(self, frame: Frame, data: memoryview) -> None:
        """Compare every granule that a frame owns with its hash.

        Raises:
            DataLoss: naming the part.
        """
        granule = self.region.granule
        first = (frame.offset - self.region.offset) // granule
        for index in range(first, first + -(-frame.length // granule)):
            if self.owners[index] == frame:
                start = (index - first) * granule
                expected = self.hashes[index * HASH : (index + 1) * HASH]
                if granule_hash(data[start : start + granule], granule) != expected:
                    place = self.region.offset + index * granule
                    raise DataLoss(f"the part {frame.key} is damaged: its bytes for {place} are wrong")


FetchDirectory = Callable[[str, PartRef, Region], "Future[Directory]"]


def load_index(manifest: Manifest, window: Window, fetch: FetchDirectory, call: Call) -> WindowIndex:
    """Overlay the directories of a window's parts, oldest first.

    Args:
        fetch: begins to fetch one directory; all are asked for before the first is waited for.

    Raises:
        DataLoss: a part is missing or damaged, or the parts do not add up to the window.
        DeadlineExceeded: the call's time is over.
    """
    region = region_of(manifest, window)
    refs = [(manifest.key_of(window, ref), ref) for ref in window.parts]
    waiting = [fetch(key, ref, region) for key, ref in refs]
    return overlay(manifest, window, [future.result(call.remaining()) for future in waiting])


def overlay(manifest: Manifest, window: Window, directories: Sequence[Directory]) -> WindowIndex:
    """Overlay the directories of a window's parts, oldest first.

    Raises:
        DataLoss: the parts do not add up to the window.
    """
    region, hashes = region_of(manifest, window), directories[-1].hashes
    newest = manifest.key_of(window, window.parts[-1])
    place = f"the window at {window.offset} of {manifest.volume}/{manifest.snapshot}"
    if window_digest(hashes) != window.digest:
        raise DataLoss(f"{place} does not have the digest of the manifest: so say the HASHES of {newest}")
    owners: list[Frame | None] = [None] * region.granules
    for first, count, frame in (member for directory in directories for member in directory.members):
        owners[first : first + count] = [frame] * count
    for index in range(region.granules):
        if hashes[index * HASH : (index + 1) * HASH] == ZERO:
            owners[index] = None
        elif owners[index] is None:
            raise DataLoss(f"{place} is incomplete: {newest} and the parts below have no bytes for all of it")
    return WindowIndex(region, hashes, tuple(owners))


def fetch_directory(store: Store, key: str, ref: PartRef, region: Region, call: Call) -> Directory:
    """Fetch the end of a part and check its structure.

    Raises:
        DataLoss: the part is missing or damaged.
    """
    return directory_of(Part(Remote(store, key, ref, call).file, ref.size, region, key), key, region)


def directory_of(part: Part, key: str, region: Region) -> Directory:
    """Return the directory of a part that was opened."""
    return Directory(tuple(_members(key, region, part)), part.hashes())


def _members(key: str, region: Region, part: Part) -> Iterator[tuple[int, int, Frame | None]]:
    """Yield the members of a part."""
    for info in part.infos:
        member = member_of(info, memoryview(b""))
        indices = region.indices(member.offset, member.length)
        start = info.header_offset
        end = min(part.ends[start], start + _MAX_HEADER + info.compress_size)
        if info.compress_size > _MAX_COMPRESSED:
            raise DataLoss(f"the part {key} is damaged: member {info.filename} is too large")
        method, size = info.compress_type, info.compress_size
        frame = Frame(key, start, end, member.offset, member.length, method, size)
        yield indices.start, len(indices), None if member.data is None else frame


def fetch_frame(store: Store, frame: Frame, index: WindowIndex, call: Call) -> memoryview:
    """Fetch a frame with one request, unpack it and check all that it owns.

    Raises:
        DataLoss: the part is missing or damaged.
    """
    try:
        raw = b"".join(store.get(frame.key, call, offset=frame.start, length=frame.end - frame.start))
    except NotFound as error:
        raise DataLoss(f"the part {frame.key} is missing") from error
    except InvalidArgument as error:  # the range that it should have is not in it
        raise _wrong(frame) from error
    return decode_frame(raw, frame, index)


def decode_frame(raw: bytes, frame: Frame, index: WindowIndex) -> memoryview:
    """Unpack a frame, local header and all, and check all that it owns.

    Raises:
        DataLoss: the part is damaged.
    """
    try:
        name, extra = _LOCAL_HEADER.unpack_from(raw)
        begin = _LOCAL_HEADER.size + name + extra
        packed = memoryview(raw)[begin : begin + frame.compressed]
        data = memoryview(unpack(frame.method, packed, frame.length))
    except (struct.error, PackingError) as error:
        raise _wrong(frame) from error
    index.check(frame, data)
    return data


def _wrong(frame: Frame) -> DataLoss:
    return DataLoss(f"the part {frame.key} is damaged: its bytes for {frame.offset} are wrong")
