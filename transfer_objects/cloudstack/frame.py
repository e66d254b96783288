"""Frames of the agent protocol: a header of 40 bytes, then the JSON of a payload, perhaps compressed.

    0       1      2       4          12        16           24        32     40
    | version | 0  | flags | sequence | length  | management | agent   | via  | body …
        1      1      2        8          4          8           8        8        big endian

`length` counts the body's bytes before compression. A body from 8192 bytes on is compressed with gzip.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag

from ..errors import DecodeError
from .text import MAX_BYTES

_HEADER = struct.Struct(">BBHqiqqq")
HEADER_BYTES = _HEADER.size
COMPRESS_FROM = 8192


class Version(IntEnum):
    """Version of the protocol; peers refuse V2."""

    V1 = 0
    V3 = 2


class Flags(IntFlag):
    """What a frame is; without REQUEST it is a response. Unknown bits are kept."""

    REQUEST = 0x1
    STOP_ON_ERROR = 0x2
    IN_SEQUENCE = 0x4
    FROM_SERVER = 0x20
    CONTROL = 0x40
    COMPRESSED = 0x80


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One request or response.

    Attributes:
        body: JSON in UTF-8, never compressed here; may hold secrets, so it is not part of the repr.
        sequence: pairs a response with its request.
        management_id: the management server, or 0.
        agent_id: the agent; `via`: the agent that passes it on, or 0.
    """

    body: bytes = field(repr=False)
    flags: Flags
    sequence: int = 0
    version: Version = Version.V3
    management_id: int = 0
    agent_id: int = 0
    via: int = 0

    def encode(self) -> bytes:
        """Return the frame's bytes; COMPRESSED is set or cleared as the body's length demands."""
        compress = len(self.body) >= COMPRESS_FROM
        flags = _without_compressed(self.flags) | (Flags.COMPRESSED if compress else 0)
        numbers = (self.sequence, len(self.body), self.management_id, self.agent_id, self.via)
        body = gzip.compress(self.body, mtime=0) if compress else self.body
        return _HEADER.pack(self.version, 0, flags, *numbers) + body


def decode_frame(data: bytes) -> Frame:
    """Read one whole frame.

    Raises:
        DecodeError: for a header that is cut or wrong, and a body that is shorter or longer than it says.
    """
    if len(data) < HEADER_BYTES:
        raise DecodeError(f"must have a header of {HEADER_BYTES} bytes, not {len(data)}", "header")
    version, zero, flags, sequence, length, management, agent, via = _HEADER.unpack_from(data)
    if version not in list(Version):
        raise DecodeError(f"must be 0 (v1) or 2 (v3), not {version}", "header.version")
    if zero:
        raise DecodeError("must be 0", "header.reserved")
    if not 0 <= length <= MAX_BYTES:
        raise DecodeError(f"must be from 0 to {MAX_BYTES} bytes", "header.length")
    kind = Flags(flags)
    body = data[HEADER_BYTES:]
    return Frame(
        body=_inflate(body, length) if Flags.COMPRESSED in kind else _exactly(body, length),
        flags=_without_compressed(kind),
        sequence=sequence,
        version=Version(version),
        management_id=management,
        agent_id=agent,
        via=via,
    )


def _without_compressed(flags: Flags) -> Flags:
    # As numbers: ~ of an IntFlag clears the bits that have no name, too.
    return Flags(int(flags) & ~int(Flags.COMPRESSED))


def _inflate(body: bytes, length: int) -> bytes:
    # One byte more than announced is enough to see a bomb; it is never unpacked.
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        found = unpacker.decompress(body, length + 1)
        # The bound may end the output before the trailer with its checksum was read.
        found += unpacker.decompress(unpacker.unconsumed_tail, 1)
    except zlib.error as error:
        raise DecodeError("must be gzip, and is damaged", "body") from error
    if len(found) <= length and (not unpacker.eof or unpacker.unused_data):
        raise DecodeError("must be one whole gzip stream", "body")
    return _exactly(found, length)


def _exactly(body: bytes, length: int) -> bytes:
    if len(body) != length:
        how = "longer" if len(body) > length else "shorter"
        raise DecodeError(f"must have the {length} bytes that the header says, and is {how}", "body")
    return body
