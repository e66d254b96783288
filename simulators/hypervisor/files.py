"""The simulated guest's file system: a few small files in the first 64 KiB of a disk.

     0        8        12       16                                65536
     | magic  | length | CRC-32 | JSON object of name to content  |  ... the blocks of `pattern`, at the end

One region per disk, rewritten whole: enough to ask what a snapshot, a revert or a merge did to a file.
"""

from __future__ import annotations

import json
import struct
import zlib

from .errors import Refused
from .media import Medium

REGION = 65536
BLOCK = 4096
_HEAD = struct.Struct(">8sII")
_MAGIC = b"BOLLFILE"
_IN_FIRST = BLOCK - _HEAD.size


def read_files(medium: Medium) -> dict[str, str]:
    """All files of a disk; none on a fresh one.

    Raises:
        Refused: 500 when the region is damaged.
    """
    first = medium.read(0, BLOCK)
    magic, length, crc = _HEAD.unpack_from(first)
    if magic != _MAGIC:
        return {}
    rest = medium.read(BLOCK, _whole_blocks(_HEAD.size + length) - BLOCK) if length > _IN_FIRST else b""
    body = (first + rest)[_HEAD.size :][:length]
    if zlib.crc32(body) != crc:
        raise Refused(500, "damaged", "the guest's file system is damaged")
    files: dict[str, str] = json.loads(body)
    return files


def write_file(medium: Medium, name: str, text: str) -> None:
    """Writes one file and makes it durable.

    Raises:
        Refused: 409 when the file system is full.
    """
    body = json.dumps({**read_files(medium), name: text}).encode()
    if len(body) > REGION - _HEAD.size:
        raise Refused(409, "limit", "the guest's file system is full")
    whole = _HEAD.pack(_MAGIC, len(body), zlib.crc32(body)) + body
    medium.write(0, whole.ljust(_whole_blocks(len(whole)), b"\0"))
    medium.flush()


def _whole_blocks(length: int) -> int:
    """Storage takes whole sectors."""
    return min(-(-length // BLOCK) * BLOCK, REGION)
