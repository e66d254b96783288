"""A part: an ordinary ZIP with what changed in one window of the volume.

    0000000004000000.00010000.data       64 KiB for offset 0x4000000
    0000000004010000.003f0000.zero       an empty member: this range reads as zeros
    HASHES                               32 bytes per granule of the *whole* window, as it is after this part
    SHA256SUMS                           of all members above, for `sha256sum -c`

Members are sorted, disjoint, and inside the window; data comes in frames of at most 4 MiB. Time stamps,
modes and order are fixed: equal content gives equal bytes (deflate: with the same zlib).

HASHES is for the next increment: it finds out what differs without reading the parent's data, and
computes the window's digest without reading what did not change. It is believed only if it adds up to
the window's digest in the manifest; a part without a good one is no loss, the window is stored whole.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable
from typing import BinaryIO, Literal, NamedTuple

from ..spi.errors import DataLoss
from .digest import HASH
from .pieces import Joined, Pieces

MAX_FRAME = 4 * 1024 * 1024
"""Bytes per data member: what a reader of one block has to fetch and check at most."""

HASHES = "HASHES"
SUMS = "SHA256SUMS"
Compression = Literal["stored", "deflate", "auto"]

_NAME = re.compile(r"([0-9a-f]{16})\.([0-9a-f]{8})\.(data|zero)")
# What zipfile lets through of a hostile file, besides its own class.
_ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError,
    ValueError, OverflowError,
)  # fmt: skip

# One frame in so many is tried, and deflate is taken if it saves a fifth: zlib level 1 runs at 49 MiB/s
# on data that doesn't compress, a twentieth of what reading and hashing take.
_SAMPLE_BYTES = 64 * 1024
_SAMPLES = 4
_WORTH_IT = 0.8


class Member(NamedTuple):
    """A range of the volume, in bytes, and what it holds; None: zeros."""

    offset: int
    length: int
    data: memoryview | None

    @property
    def name(self) -> str:
        """Its name in the ZIP."""
        return f"{self.offset:016x}.{self.length:08x}.{'zero' if self.data is None else 'data'}"


class Region(NamedTuple):
    """The window that a part belongs to, in bytes."""

    offset: int
    length: int
    granule: int

    @property
    def granules(self) -> int:
        """How many granules it has; the last one may be shorter."""
        return -(-self.length // self.granule)


def build(members: Iterable[Member], hashes: bytes, compression: Compression = "stored") -> Joined:
    """Make a part; `members` sorted and disjoint, `hashes` of the whole window."""
    members = list(members)
    method = _method(members, compression)
    pieces, sums = Pieces(), []
    with zipfile.ZipFile(pieces, "w") as archive:
        for name, data in [*((m.name, m.data or b"") for m in members), (HASHES, hashes)]:
            compress = method if data and name != HASHES else zipfile.ZIP_STORED
            archive.writestr(_info(name, compress), data, compresslevel=1)
            sums.append(f"{hashlib.sha256(data).hexdigest()}  {name}\n")
        archive.writestr(_info(SUMS, zipfile.ZIP_STORED), "".join(sums).encode())
    return pieces.finish()


def _info(name: str, method: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)  # its default time is 1980-01-01, the first that ZIP has
    info.create_system = 3  # Unix, also where Windows writes it
    info.external_attr = 0o644 << 16
    info.compress_type = method
    return info


def _method(members: list[Member], compression: Compression) -> int:
    if compression == "stored":
        return zipfile.ZIP_STORED
    if compression == "deflate":
        return zipfile.ZIP_DEFLATED
    frames = [m.data for m in members if m.data is not None]
    samples = [f[:_SAMPLE_BYTES] for f in frames[:: max(1, len(frames) // _SAMPLES)]]
    before, after = sum(map(len, samples)), sum(len(zlib.compress(s, 1)) for s in samples)
    return zipfile.ZIP_DEFLATED if after < before * _WORTH_IT else zipfile.ZIP_STORED


class Part:
    """A part that was fetched, its structure checked; whatever is wrong raises `DataLoss` with its name.

    Args:
        file: the ZIP.
        size: its length in bytes.
        region: the window that it is for.
        name: the part's key, for messages.
    """

    def __init__(self, file: BinaryIO, size: int, region: Region, name: str) -> None:
        self._region = region
        self._name = name
        try:
            self._zip = zipfile.ZipFile(file)
        except _ZIP_ERRORS as error:
            raise self._bad(f"it is not a ZIP file: {error}") from error
        self._infos = self._zip.infolist()
        self._check_structure(size)

    def _bad(self, why: str) -> DataLoss:
        return DataLoss(f"the part {self._name} is damaged: {why}")

    def _check_structure(self, size: int) -> None:
        """Refuse bombs and slips: every name, place and length is fixed before anything is unpacked."""
        names = [info.filename for info in self._infos]
        if names[-2:] != [HASHES, SUMS]:
            raise self._bad("it does not end with HASHES and SHA256SUMS")
        if sum(info.compress_size for info in self._infos) > size:
            raise self._bad("its members overlap")
        position = self._region.offset
        for info in self._infos[:-2]:
            position = self._check_member(info, position)
        if self._infos[-2].file_size != self._region.granules * HASH:
            raise self._bad("HASHES has a wrong length")
        if self._infos[-1].file_size != sum(HASH * 2 + 3 + len(name) for name in names[:-1]):
            raise self._bad("SHA256SUMS has a wrong length")

    def _check_member(self, info: zipfile.ZipInfo, position: int) -> int:
        """Check a member's name against its place and size; return where it ends."""
        match = _NAME.fullmatch(info.filename)
        if not match:
            raise self._bad(f"unexpected member {info.filename[:60]!r}")
        offset, length = int(match[1], 16), int(match[2], 16)
        if not position <= offset < offset + length <= self._region.offset + self._region.length:
            raise self._bad(f"member {info.filename} is out of order or outside of the window")
        zero = match[3] == "zero"
        if info.file_size != (0 if zero else length) or (not zero and length > MAX_FRAME):
            raise self._bad(f"member {info.filename} has a wrong length")
        return offset + length

    def members(self, *, sums: bool = True) -> Iterable[Member]:
        """Yield the members, each checked against its CRC, and with `sums` against SHA256SUMS."""
        expected = self._sums() if sums else None
        for info in self._infos[:-2]:
            data = self._read(info, expected)
            match = _NAME.fullmatch(info.filename)
            assert match  # noqa: S101 - _check_structure looked
            zero = match[3] == "zero"
            yield Member(int(match[1], 16), int(match[2], 16), None if zero else memoryview(data))
        self._read(self._infos[-2], expected)

    def hashes(self) -> bytes:
        """Return HASHES, checked against its CRC only: see above when to believe it."""
        return self._read(self._infos[-2], None)

    def _sums(self) -> dict[str, str]:
        lines = self._read(self._infos[-1], None).decode("ascii", "replace").splitlines()
        pairs = [line.partition("  ") for line in lines]
        if [name for _, _, name in pairs] != [info.filename for info in self._infos[:-1]]:
            raise self._bad("SHA256SUMS does not list its members")
        return {name: digest for digest, _, name in pairs}

    def _read(self, info: zipfile.ZipInfo, expected: dict[str, str] | None) -> bytes:
        try:
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise NotImplementedError("a compression that the format does not have")
            with self._zip.open(info) as stream:
                data = stream.read(info.file_size)
                rest = stream.read(1)  # at the end zipfile compares the CRC
        except _ZIP_ERRORS as error:
            raise self._bad(f"member {info.filename}: {error}") from error
        if len(data) != info.file_size or rest:
            raise self._bad(f"member {info.filename} has a wrong length")
        if expected is not None and hashlib.sha256(data).hexdigest() != expected[info.filename]:
            raise self._bad(f"member {info.filename} is not what SHA256SUMS says")
        return data
