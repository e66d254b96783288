r"""What an image says about itself, read without opening it.

The header is parsed here, in Python, before any QEMU program sees the image: opening is already the
attack (CVE-2024-32498, CVE-2024-4467: `qemu-img info` itself read a file that the image named).
The format is an argument and never guessed: a raw image that begins with a qcow2 header is raw.

    0   4     8                 16             24     32      36 .. 60   60          72
    | QFI\xfb | version | backing file at, length | .. | size | crypt | L1 .. | snapshots | features

Source: https://www.qemu.org/docs/master/interop/qcow2.html
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

from ..spi.errors import DataLoss, InvalidArgument, Unsupported
from ..spi.location import DiskFormat
from .file import open_nofollow
from .os_errors import os_errors

_MAGIC = b"QFI\xfb"
_V2_HEADER = 72
_V3_HEADER = 104
# Header and extensions must lie in the first cluster; what QEMU writes is below 1 KiB.
_READ = 64 * 1024
_MAX_NAME = 1023
_DATA_FILE_NAME = 0x44415441

_DIRTY, _CORRUPT, _EXTERNAL_DATA, _COMPRESSION, _EXTENDED_L2 = (1 << bit for bit in range(5))
_KNOWN_FEATURES = _DIRTY | _CORRUPT | _EXTERNAL_DATA | _COMPRESSION | _EXTENDED_L2


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInfo:
    """An image's own words; believe none before `refuse_hostile`.

    Attributes:
        virtual_size: bytes that a guest sees.
        allocated: bytes that the file occupies.
        backing: name of the backing file, or None.
        data_file: name of the external data file ("" if it has one without a name), or None.
        encrypted: by itself (AES or LUKS).
        dirty: not closed properly; QEMU repairs its reference counts when it opens it for writing.
        corrupt: marked as damaged by QEMU.
        snapshots: number of internal snapshots.
        unknown_features: bits of incompatible features that did not exist when this was written.
    """

    format: DiskFormat
    virtual_size: int
    allocated: int
    backing: str | None = None
    data_file: str | None = None
    encrypted: bool = False
    dirty: bool = False
    corrupt: bool = False
    snapshots: int = 0
    unknown_features: int = 0


def probe(path: Path, format: DiskFormat) -> ImageInfo:  # noqa: A002 - the field's own word
    """Return what the image at `path` says about itself, as an image of `format`.

    Raises:
        NotFound, PermissionDenied: as the kernel says.
        InvalidArgument: a link, no regular file or device, or not an image of that format.
        Unsupported: a qcow2 version other than 2 and 3.
    """
    fd = open_nofollow(path, writable=False)
    try:
        return probe_fd(fd, path, format)
    finally:
        os.close(fd)


def probe_fd(fd: int, path: Path, format: DiskFormat) -> ImageInfo:  # noqa: A002 - as in `probe`
    """Do the same with an open image; the only way if it is opened afterwards (no exchange between)."""
    with os_errors(f"cannot read {path}"):
        allocated = os.fstat(fd).st_blocks * 512
        if format == "raw":
            return ImageInfo(format="raw", virtual_size=os.lseek(fd, 0, os.SEEK_END), allocated=allocated)
        head = os.pread(fd, _READ, 0)
    try:
        return _parse(head, allocated)
    except (struct.error, UnicodeDecodeError, _MalformedError) as error:
        raise InvalidArgument(f"{path} is not a qcow2 image: its header is damaged") from error


def refuse_hostile(info: ImageInfo, path: Path) -> None:
    """Raise if opening the image would read anything but the image, or if it cannot be trusted.

    Raises:
        InvalidArgument: it has a backing file, an external data file or is encrypted.
        DataLoss: it is marked as corrupt.
        Unsupported: it uses features that are not known here.
    """
    if info.backing is not None:
        raise InvalidArgument(f"{path} has a backing file; only images that stand alone are taken")
    if info.data_file is not None:
        raise InvalidArgument(
            f"{path} keeps its data in another file; only images that stand alone are taken"
        )
    if info.encrypted:
        raise InvalidArgument(f"{path} is encrypted by its format; its blocks would be unreadable")
    if info.unknown_features:
        raise Unsupported(f"{path} uses qcow2 features {info.unknown_features:#x}, unknown to this version")
    if info.corrupt:
        raise DataLoss(f"{path} is marked as corrupt; `qemu-img check -r all` may repair it")


class _MalformedError(Exception):
    """A header that contradicts itself."""


def _parse(head: bytes, allocated: int) -> ImageInfo:
    magic, version, backing_at, backing_length, _, size, crypt = struct.unpack_from(">4sIQIIQI", head)
    if magic != _MAGIC or size >= 2**63:
        raise _MalformedError
    if version not in (2, 3):
        raise Unsupported(f"qcow2 version {version} is not supported, 2 and 3 are")
    features, header_length = 0, _V2_HEADER
    if version == 3:
        features = int.from_bytes(head[72:80], "big")
        header_length = int.from_bytes(head[100:104], "big")
        if not _V3_HEADER <= header_length <= len(head):
            raise _MalformedError
    data_file = _data_file(head, header_length)
    return ImageInfo(
        format="qcow2",
        virtual_size=size,
        allocated=allocated,
        backing=_text(head, backing_at, backing_length) if backing_at else None,
        data_file=(data_file or "") if features & _EXTERNAL_DATA else data_file,
        encrypted=crypt != 0,
        dirty=bool(features & _DIRTY),
        corrupt=bool(features & _CORRUPT),
        snapshots=int.from_bytes(head[60:64], "big"),
        unknown_features=features & ~_KNOWN_FEATURES,
    )


def _text(head: bytes, start: int, length: int) -> str:
    if length > _MAX_NAME or start + length > len(head):
        raise _MalformedError
    return head[start : start + length].decode(errors="backslashreplace")


def _data_file(head: bytes, position: int) -> str | None:
    """Look through the header extensions for the name of an external data file."""
    while position + 8 <= len(head):
        kind, length = struct.unpack_from(">II", head, position)
        if kind == 0:
            return None
        if kind == _DATA_FILE_NAME:
            return _text(head, position + 8, length)
        position += 8 + -(-length // 8) * 8
    return None
