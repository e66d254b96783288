"""Frames, written and read here once more: who shared the agent's code would share its mistakes."""

from __future__ import annotations

import gzip
import io
import struct
from typing import NamedTuple

_LENGTH = struct.Struct(">I")
_HEADER = struct.Struct(">BBHQIQQQ")
REQUEST, STOP_ON_ERROR, IN_SEQUENCE, FROM_SERVER, CONTROL, COMPRESSED = 0x1, 0x2, 0x4, 0x20, 0x40, 0x80
VERSION_3 = 2
_COMPRESS_FROM = 8192
_LONGEST = 8 * 2**20


class Received(NamedTuple):
    """A frame: its header's numbers, and its body as it was before compression."""

    version: int
    flags: int
    sequence: int
    management: int
    agent: int
    body: bytes


def packed(
    body: bytes, *, flags: int, sequence: int, management: int, agent: int, version: int = VERSION_3
) -> bytes:
    """A frame behind its length."""
    content = body
    if len(body) >= _COMPRESS_FROM:
        content, flags = gzip.compress(body), flags | COMPRESSED
    header = _HEADER.pack(version, 0, flags, sequence, len(body), management, agent, 0)
    return _LENGTH.pack(len(header) + len(content)) + header + content


def bomb(sequence: int) -> bytes:
    """A frame of some KiB that would unpack to a GiB."""
    packing = io.BytesIO()
    with gzip.GzipFile(fileobj=packing, mode="wb", compresslevel=9, mtime=0) as file:
        for _ in range(64):
            file.write(bytes(2**20))
    content = packing.getvalue() * 16  # gzip streams one behind the other are one stream
    header = _HEADER.pack(VERSION_3, 0, REQUEST | FROM_SERVER | COMPRESSED, sequence, 100, 0, 0, 0)
    return _LENGTH.pack(len(header) + len(content)) + header + content


def flood() -> bytes:
    """A length that nobody should wait for."""
    return _LENGTH.pack(2**32 - 1) + bytes(4096)


class BadFrame(Exception):
    """An agent sent what is no frame."""


def length_of(data: bytes) -> int:
    """The length that four bytes announce."""
    [length] = _LENGTH.unpack(data)
    if not _HEADER.size <= length <= _LONGEST:
        raise BadFrame(f"a frame of {length} bytes")
    return int(length)


def unpacked(data: bytes) -> Received:
    """Reads a frame and checks all of its header."""
    version, zero, flags, sequence, length, management, agent, _ = _HEADER.unpack_from(data)
    if version != VERSION_3 or zero:
        raise BadFrame(f"version {version}, reserved byte {zero}")
    content = data[_HEADER.size :]
    body = gzip.decompress(content) if flags & COMPRESSED else content
    if len(body) != length or bool(flags & COMPRESSED) != (length >= _COMPRESS_FROM):
        raise BadFrame(f"a body of {len(body)} bytes, the header says {length}, flags {flags:#x}")
    return Received(version, flags, sequence, management, agent, body)
