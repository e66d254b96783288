"""A part: an ordinary ZIP with what changed in one window of the volume.

    0000000004000000.00010000.data       64 KiB for offset 0x4000000
    0000000004010000.003f0000.zero       an empty member: this range reads as zeros
    HASHES                               32 bytes per granule of the *whole* window, as it is after this part
    SHA256SUMS                           of all members above: only in parts of format version 1

Members are sorted, disjoint, and inside the window; data comes in frames of at most 4 MiB, which end where
the window's 4 MiB steps do. Time stamps, modes and order are fixed: equal content gives equal bytes
(compressed: with the same library).

HASHES says what every granule must be. It is vouched for by the window's digest in the manifest, so one
SHA-256 of the data proves it right, and another one of the whole part gives its name. (Version 1 hashed
each member once more, for SHA256SUMS.) The next increment finds out with HASHES what differs without reading
the parent's data; a part without a good one is no loss there, the window is stored whole.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, NamedTuple

from ..dataplane.checksum import crc32
from ..spi.errors import DataLoss
from .digest import HASH, granule_hash
from .packing import STORED, Compression, Packer, PackingError, unpack
from .pieces import Joined
from .zipper import ZipWriter

MAX_FRAME = 4 * 1024 * 1024
"""Bytes per data member: what a reader of one block has to fetch and check at most."""

HASHES = "HASHES"
SUMS = "SHA256SUMS"

_NAME = re.compile(r"([0-9a-f]{16})\.([0-9a-f]{8})\.(data|zero)")
_LOCAL_HEADER = struct.Struct("<4s22x2H")  # "PK\3\4", ..., lengths of the name and of the extra field
_ENCRYPTED = 0x1
# What zipfile lets through of a hostile file, besides its own class.
_ZIP_ERRORS = (
    zipfile.BadZipFile, PackingError, struct.error, EOFError, NotImplementedError, RuntimeError,
    ValueError, OverflowError,
)  # fmt: skip


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

    def indices(self, offset: int, length: int) -> range:
        """Return the granules that a range of the volume touches."""
        start = offset - self.offset
        return range(start // self.granule, -(-(start + length) // self.granule))


def _keep(member: Member) -> None:
    """Do nothing with the memory of a member that was packed."""


def build(
    members: Iterable[Member],
    hashes: bytes | bytearray,
    compression: Compression = "stored",
    packed: Callable[[Member], None] = _keep,
) -> Joined:
    """Make a part.

    Args:
        members: sorted and disjoint; may still be read while the first are being packed.
        hashes: of the whole window; looked at after the last member.
        packed: told of each member whose memory is not needed any more: the part holds a packed copy.
    """
    writer, packer = ZipWriter(), Packer(compression)
    for member in members:
        data = member.data if member.data is not None else memoryview(b"")
        method, content = packer.pack(data) if len(data) else (STORED, data)
        writer.add(member.name, data, content, method)
        if method != STORED:
            packed(member)
    final = bytes(hashes)
    writer.add(HASHES, final, final, STORED)
    return writer.finish()


class Part:
    """A part that was fetched, its structure checked; whatever is wrong raises `DataLoss` with its name.

    Args:
        file: the ZIP.
        size: its length in bytes.
        region: the window that it is for.
        name: the part's key, for messages.
    """

    def __init__(self, file: BinaryIO, size: int, region: Region, name: str) -> None:
        self._file = file
        self._region = region
        self._name = name
        try:
            infos = zipfile.ZipFile(file).infolist()
        except _ZIP_ERRORS as error:
            raise self._bad(f"it is not a ZIP file: {error}") from error
        self._check_structure(infos, size)
        self.ends = dict(
            zip(starts := sorted(i.header_offset for i in infos), [*starts[1:], size], strict=True)
        )
        """Where what begins at a member's local header ends at most: at the next one."""
        self._sums_info = infos.pop() if infos[-1].filename == SUMS else None
        self._hashes_info = infos.pop()
        self.infos = infos
        """The members of data and zeros."""

    def _bad(self, why: str) -> DataLoss:
        return DataLoss(f"the part {self._name} is damaged: {why}")

    def _check_structure(self, infos: list[zipfile.ZipInfo], size: int) -> None:
        """Refuse bombs and slips: every name, place and length is fixed before anything is unpacked."""
        names = [info.filename for info in infos]
        if names[-1:] != [HASHES] and names[-2:] != [HASHES, SUMS]:
            raise self._bad("it does not end with HASHES, or HASHES and SHA256SUMS")
        if sum(info.compress_size for info in infos) > size:
            raise self._bad("its members overlap")
        count = names.index(HASHES)
        position = self._region.offset
        for info in infos[:count]:
            position = self._check_member(info, position)
        if infos[count].file_size != self._region.granules * HASH:
            raise self._bad("HASHES has a wrong length")
        sums = sum(HASH * 2 + 3 + len(name) for name in names[: count + 1])
        if infos[-1].filename == SUMS and infos[-1].file_size != sums:
            raise self._bad("SHA256SUMS has a wrong length")

    def _check_member(self, info: zipfile.ZipInfo, position: int) -> int:
        """Check a member's name against its place and size; return where it ends."""
        match = _NAME.fullmatch(info.filename)
        if not match:
            raise self._bad(f"unexpected member {info.filename[:60]!r}")
        offset, length = int(match[1], 16), int(match[2], 16)
        end = self._region.offset + self._region.length
        if not position <= offset < offset + length <= end:
            raise self._bad(f"member {info.filename} is out of order or outside of the window")
        zero = match[3] == "zero"
        if info.file_size != (0 if zero else length) or (not zero and length > MAX_FRAME):
            raise self._bad(f"member {info.filename} has a wrong length")
        granule = self._region.granule
        if (offset - self._region.offset) % granule or (length % granule and offset + length != end):
            raise self._bad(f"member {info.filename} is not made of whole granules")
        return offset + length

    def members(self, *, sums: bool = True, hashes: bool = False) -> Iterator[Member]:
        """Yield the members, each checked against its CRC.

        Args:
            sums: compare them with SHA256SUMS, or where there is none with HASHES.
            hashes: compare them with HASHES in any case.
        """
        expected = self._sums() if sums and self._sums_info else None
        granules = self.hashes() if hashes or (sums and not self._sums_info) else None
        for info in self.infos:
            data = self._read(info, expected)
            member = member_of(info, memoryview(data))
            if granules and not self._is_as_hashed(member, granules):
                raise self._bad(f"member {info.filename} is not what HASHES says")
            yield member
        self._read(self._hashes_info, expected)

    def hashes(self) -> bytes:
        """Return HASHES, checked against its CRC only: see above when to believe it."""
        return bytes(self._read(self._hashes_info, None))

    def _is_as_hashed(self, member: Member, hashes: bytes) -> bool:
        indices = self._region.indices(member.offset, member.length)
        found = hashes[indices.start * HASH : indices.stop * HASH]
        if member.data is None:
            return not any(found)
        granule = self._region.granule
        pieces = (member.data[i : i + granule] for i in range(0, member.length, granule))
        return found == b"".join(granule_hash(piece, granule) for piece in pieces)

    def _sums(self) -> dict[str, str]:
        assert self._sums_info  # noqa: S101 - asked for only then
        lines = bytes(self._read(self._sums_info, None)).decode("ascii", "replace").splitlines()
        pairs = [line.partition("  ") for line in lines]
        if [name for _, _, name in pairs] != [*(info.filename for info in self.infos), HASHES]:
            raise self._bad("SHA256SUMS does not list its members")
        return {name: digest for digest, _, name in pairs}

    def _read(self, info: zipfile.ZipInfo, expected: dict[str, str] | None) -> bytes | memoryview:
        try:
            data = unpack(info.compress_type, self._packed(info), info.file_size)
        except _ZIP_ERRORS as error:
            raise self._bad(f"member {info.filename}: {error}") from error
        if crc32(data) != info.CRC:
            raise self._bad(f"member {info.filename} does not have its CRC-32")
        if expected is not None and hashlib.sha256(data).hexdigest() != expected[info.filename]:
            raise self._bad(f"member {info.filename} is not what SHA256SUMS says")
        return data

    def _packed(self, info: zipfile.ZipInfo) -> memoryview:
        if info.flag_bits & _ENCRYPTED:
            raise PackingError("it is encrypted, which the format does not have")
        name = info.filename.encode()
        self._file.seek(info.header_offset)
        raw = memoryview(self._file.read(_LOCAL_HEADER.size + len(name) + info.compress_size))
        mark, length, extra = _LOCAL_HEADER.unpack_from(raw)
        start = _LOCAL_HEADER.size + len(name)
        if mark != b"PK\3\4" or length != len(name) or raw[_LOCAL_HEADER.size : start] != name:
            raise PackingError("its local header is not that of the directory")
        if extra:  # not ours: some other tool has written this archive again
            return memoryview(bytes(raw[start + extra :]) + self._file.read(extra))
        return raw[start:]


def member_of(info: zipfile.ZipInfo, data: memoryview) -> Member:
    """Return what a member, whose name was checked, holds."""
    offset, length, kind = info.filename.split(".")
    return Member(int(offset, 16), int(length, 16), None if kind == "zero" else data)
