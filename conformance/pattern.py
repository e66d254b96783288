"""Self-describing data: each 4 KiB block says whose it is, where it belongs and how old it is.

    0        8          24        32           40       44        48                         4096
    ┌────────┬──────────┬─────────┬────────────┬────────┬─────────┬─────────────────────────────┐
    │ magic  │ owner    │ offset  │ generation │ zero   │ crc-32  │ 32-byte digest, repeated    │
    └────────┴──────────┴─────────┴────────────┴────────┴─────────┴─────────────────────────────┘

"md5 differs" tells nobody anything. With this, a stale snapshot, a misdirected write, a torn clone, a
lost write and un-zeroed reuse become different sentences.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass

BLOCK = 4096
_MAGIC = b"BOLLARD1"
_HEADER = struct.Struct("<8s16sQQII")
_ZERO = bytes(BLOCK)


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a block says about itself."""

    owner: bytes
    offset: int
    generation: int


def owner_tag(name: str) -> bytes:
    """Return the 16 bytes that stand for a volume in its blocks."""
    return hashlib.blake2b(name.encode(), digest_size=16).digest()


def block(name: str, offset: int, generation: int) -> bytes:
    """Return the block of volume `name` at byte `offset` (a multiple of 4096)."""
    owner = owner_tag(name)
    blank = _HEADER.pack(_MAGIC, owner, offset, generation, 0, 0)
    digest = hashlib.blake2b(blank, digest_size=32).digest()
    body = (digest * (BLOCK // 32))[: BLOCK - _HEADER.size]
    return _HEADER.pack(_MAGIC, owner, offset, generation, 0, zlib.crc32(body, zlib.crc32(blank))) + body


def blocks(name: str, offset: int, length: int, generation: int) -> bytes:
    """Return consecutive blocks; `offset` and `length` are multiples of 4096."""
    return b"".join(block(name, at, generation) for at in range(offset, offset + length, BLOCK))


def read_stamp(data: bytes | memoryview) -> Stamp | None:
    """Return what a block says, or None if it is not whole."""
    magic, owner, offset, generation, _, crc = _HEADER.unpack_from(data)
    blank = _HEADER.pack(magic, owner, offset, generation, 0, 0)
    if magic != _MAGIC or zlib.crc32(data[_HEADER.size :], zlib.crc32(blank)) != crc:
        return None
    return Stamp(owner, offset, generation)


def difference(data: bytes | memoryview, name: str, offset: int, generation: int | None) -> str:
    """Say what is wrong with a block, or "" if nothing is.

    Args:
        data: 4096 bytes that were read at `offset` of volume `name`.
        name: the volume they should belong to.
        offset: where they were read, bytes.
        generation: the expected one; None means that zeros are expected.
    """
    place = f"block at {offset:#x}"
    if data == _ZERO:
        return "" if generation is None else f"{place} is zero, generation {generation} was written"
    stamp = read_stamp(data)
    if stamp is None:
        return f"{place} is torn or foreign: neither zero nor a whole block of this suite"
    whose = "this volume" if stamp.owner == owner_tag(name) else "ANOTHER VOLUME"
    if generation is None:
        return f"{place} should be zero and holds data of {whose}, generation {stamp.generation}"
    if stamp.owner != owner_tag(name):
        return f"{place} holds data of ANOTHER VOLUME (its offset {stamp.offset:#x})"
    if stamp.offset != offset:
        return f"{place} holds the block of offset {stamp.offset:#x}: a misdirected write or read"
    if stamp.generation != generation:
        age = "older" if stamp.generation < generation else "newer"
        return f"{place} holds generation {stamp.generation}, {age} than the expected {generation}"
    return ""
