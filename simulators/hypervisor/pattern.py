"""Self-describing blocks that simulated guests write, and the proof that copies of disks are one instant.

A guest with D disks and S slots per disk writes generation 1, 2, 3... strictly one after the other:

    generation g, counted from the layout's first:  n = g - first
                 disk 0   disk 1   disk 2
      slot 0     n=0      n=1      n=2
      slot 1     n=3      n=4      n=5          disk = n mod D
      ...                                       slot = (n div D) mod S

So copies of all disks show one instant exactly when, with G the newest generation found anywhere, every
slot holds the newest generation <= G that belongs there.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

BLOCK = 4096
_HEAD = struct.Struct(">8sQQQIIII64s64s")
_CRC = struct.Struct(">I")
_MAGIC = b"BOLLARD1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One 4 KiB block.

    Attributes:
        generation: counts all blocks that the guest ever wrote.
        offset: where it belongs on its disk, bytes.
        first: generation that began the present layout (the guest's set of disks).
        disk_index: its disk's place in the layout.
        disk_count: disks in the layout.
        slots: blocks per disk in the layout.
        layout: tells one set of disks from another (``layout_of``).
        vm: id of the guest.
        disk: id of the disk.
    """

    generation: int
    offset: int
    first: int
    disk_index: int
    disk_count: int
    slots: int
    layout: int
    vm: str
    disk: str

    def pack(self) -> bytes:
        """The bytes on disk: header, filler that depends on the generation, CRC-32."""
        head = _HEAD.pack(
            _MAGIC,
            self.generation,
            self.offset,
            self.first,
            self.disk_index,
            self.disk_count,
            self.slots,
            self.layout,
            self.vm.encode(),
            self.disk.encode(),
        )
        filler = struct.pack(">Q", self.generation * 0x9E3779B97F4A7C15 % 2**64)
        body = (head + filler * (BLOCK // 8))[: BLOCK - _CRC.size]
        return body + _CRC.pack(zlib.crc32(body))

    @classmethod
    def unpack(cls, data: bytes) -> Block | None:
        """The block, or None when this is none.

        Raises:
            ValueError: it begins like one but is torn or corrupt.
        """
        if data[:8] != _MAGIC:
            return None
        body, crc = data[: -_CRC.size], data[-_CRC.size :]
        if len(data) != BLOCK or _CRC.pack(zlib.crc32(body)) != crc:
            raise ValueError("torn or corrupt block")
        _, generation, offset, first, index, count, slots, layout, vm, disk = _HEAD.unpack_from(data)
        return cls(
            generation=generation,
            offset=offset,
            first=first,
            disk_index=index,
            disk_count=count,
            slots=slots,
            layout=layout,
            vm=vm.rstrip(b"\0").decode(),
            disk=disk.rstrip(b"\0").decode(),
        )


def layout_of(disks: Sequence[str], slots: int) -> int:
    """A number for an ordered set of disk ids with so many slots each."""
    return zlib.crc32("/".join((*disks, str(slots))).encode())


def position(number: int, disk_count: int, slots: int) -> tuple[int, int]:
    """(disk, slot) of the ``number``-th block of a layout."""
    return number % disk_count, number // disk_count % slots


def newest_at(disk: int, slot: int, last: int, disk_count: int, slots: int) -> int | None:
    """The greatest number <= ``last`` that belongs to a disk's slot, or None."""
    begin = slot * disk_count + disk
    round_length = disk_count * slots
    return None if begin > last else begin + (last - begin) // round_length * round_length


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What copies of a guest's disks show.

    Attributes:
        generation: the newest that was found; 0 for none.
        problems: why they are not one instant; empty when they are.
    """

    generation: int
    problems: tuple[str, ...]


def examine(images: Mapping[str, Path]) -> Cut:
    """Checks raw copies of all disks of a guest, by disk id."""
    blocks = []
    problems = []
    for disk, path in images.items():
        with path.open("rb") as image:
            for offset, data in _blocks(image):
                try:
                    block = Block.unpack(data)
                except ValueError as error:
                    problems.append(f"{disk} at {offset}: {error}")
                    continue
                if block is None:
                    continue
                if (block.disk, block.offset) != (disk, offset):
                    problems.append(f"{disk} at {offset}: belongs to {block.disk} at {block.offset}")
                blocks.append(block)
    newest = max(blocks, key=lambda block: block.generation, default=None)
    if newest is None:
        return Cut(generation=0, problems=tuple(problems))
    return Cut(generation=newest.generation, problems=(*problems, *_misfits(newest, blocks)))


def _misfits(newest: Block, blocks: Sequence[Block]) -> Iterator[str]:
    count, slots = newest.disk_count, newest.slots
    found_at = {
        position(block.generation - block.first, count, slots): block
        for block in blocks
        if (block.first, block.layout) == (newest.first, newest.layout)
    }
    for place in ((disk, slot) for disk in range(count) for slot in range(slots)):
        number = newest_at(*place, newest.generation - newest.first, count, slots)
        found = found_at.get(place)
        if number is not None and (found is None or found.generation != newest.first + number):
            shown = "nothing" if found is None else f"generation {found.generation}"
            yield f"disk {place[0]} slot {place[1]}: {shown} instead of generation {newest.first + number}"


def _blocks(image: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while data := image.read(BLOCK):
        yield offset, data
        offset += BLOCK
