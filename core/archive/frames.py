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
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from ..spi.call import Call
from ..spi.errors import DataLoss, InvalidArgument, NotFound
from .digest import HASH, ZERO, granule_hash, window_digest
from .fetch import open_tail, region_of
from .manifest import Manifest, PartRef, Window
from .part import MAX_FRAME, Part, Region
from .store import Store

_LOCAL_HEADER = struct.Struct("<26xHH")  # lengths of the name and of the extra field that follow it
_MAX_HEADER = _LOCAL_HEADER.size + 2 * 0xFFFF
# What deflate makes of data that it cannot shrink: 5 bytes for each 16 KiB, and a little.
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
    keys = [manifest.key_of(window, ref) for ref in window.parts]
    waiting = [fetch(key, ref, region) for key, ref in zip(keys, window.parts, strict=True)]
    directories = [future.result(call.remaining()) for future in waiting]
    hashes = directories[-1].hashes
    if window_digest(hashes) != window.digest:
        raise DataLoss(f"the part {keys[-1]} is damaged: its HASHES are not those of the window")
    owners: list[Frame | None] = [None] * region.granules
    for first, count, frame in (member for directory in directories for member in directory.members):
        owners[first : first + count] = [frame] * count
    for index in range(region.granules):
        if hashes[index * HASH : (index + 1) * HASH] == ZERO:
            owners[index] = None
        elif owners[index] is None:
            raise DataLoss(f"the parts of {keys[-1]} and below do not add up to the window")
    return WindowIndex(region, hashes, tuple(owners))


def fetch_directory(store: Store, key: str, ref: PartRef, region: Region, call: Call) -> Directory:
    """Fetch the end of a part and check its structure.

    Raises:
        DataLoss: the part is missing or damaged.
    """
    try:
        tail = open_tail(store, key, ref.size, call)
        part = Part(tail, ref.size, region, key)
        infos = zipfile.ZipFile(tail).infolist()
        return Directory(tuple(_members(key, ref.size, region, infos)), part.hashes())
    except NotFound as error:
        raise DataLoss(f"the part {key} is missing") from error
    except InvalidArgument as error:  # the range that it should have is not in it
        raise DataLoss(f"the part {key} does not have the {ref.size} bytes of the manifest") from error


def _members(
    key: str, size: int, region: Region, infos: list[zipfile.ZipInfo]
) -> Iterator[tuple[int, int, Frame | None]]:
    """Yield the members of a part whose names `Part` has checked."""
    starts = sorted(info.header_offset for info in infos)
    behind = dict(zip(starts, [*starts[1:], size], strict=True))
    for info in infos[:-2]:
        place, extent, kind = info.filename.split(".")
        offset, length = int(place, 16), int(extent, 16)
        first, odd = divmod(offset - region.offset, region.granule)
        if odd or (length % region.granule and offset + length != region.offset + region.length):
            raise DataLoss(f"the part {key} is damaged: member {info.filename} is not made of whole granules")
        end = min(behind[info.header_offset], info.header_offset + _MAX_HEADER + info.compress_size)
        if info.compress_size > _MAX_COMPRESSED:
            raise DataLoss(f"the part {key} is damaged: member {info.filename} is too large")
        frame = Frame(key, info.header_offset, end, offset, length, info.compress_type, info.compress_size)
        yield first, -(-length // region.granule), None if kind == "zero" else frame


def fetch_frame(store: Store, frame: Frame, index: WindowIndex, call: Call) -> bytes:
    """Fetch a frame with one request, unpack it and check all that it owns.

    Raises:
        DataLoss: the part is missing or damaged.
    """
    try:
        raw = b"".join(store.get(frame.key, call, offset=frame.start, length=frame.end - frame.start))
        name, extra = _LOCAL_HEADER.unpack_from(raw)
        begin = _LOCAL_HEADER.size + name + extra
        data = _unpack(frame, raw[begin : begin + frame.compressed])
    except NotFound as error:
        raise DataLoss(f"the part {frame.key} is missing") from error
    except (InvalidArgument, struct.error, zlib.error) as error:
        raise DataLoss(f"the part {frame.key} is damaged: its bytes for {frame.offset} are wrong") from error
    if len(data) != frame.length:
        raise DataLoss(f"the part {frame.key} is damaged: its bytes for {frame.offset} are too few")
    index.check(frame, memoryview(data))
    return data


def _unpack(frame: Frame, raw: bytes) -> bytes:
    if frame.method == zipfile.ZIP_STORED:
        return raw
    if frame.method == zipfile.ZIP_DEFLATED:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(raw, frame.length)
    raise DataLoss(f"the part {frame.key} is damaged: compression {frame.method} is not in the format")
