r"""Images of other hypervisors (VMDK, VHD, VHDX) as block sources and sinks, through QEMU.

Like qcow2, they can name other files that a reader would then open for whoever made the image. What refers
to another file is refused here, in Python, before QEMU sees it:

    VMDK   "KDMV", one file with its own data       a descriptor of extents, a parent, no capacity: refused
    VHD    "conectix" at the start or at the end     a differencing disk: refused
    VHDX   "vhdxfile"                                QEMU itself opens no parent

Sources: QEMU's block/vmdk.c, block/vpc.c, block/vhdx.c (7.2); VMware's "Virtual Disk Format 5.0"; Microsoft's
"Virtual Hard Disk Image Format Specification", [MS-VHDX].
"""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from typing import Literal, TypeAlias

from ...transfer_objects.secret import Secret
from ..spi.errors import InvalidArgument, Unavailable
from .file import open_nofollow
from .nbd import DEFAULT_TIMEOUT
from .nbd_source import NbdSink, NbdSource
from .os_errors import os_errors
from .qemu_nbd import QemuNbd

ForeignFormat: TypeAlias = Literal["vmdk", "vpc", "vhdx"]
ImageFormat: TypeAlias = Literal["raw", "qcow2", "vmdk", "vpc", "vhdx"]
"""As QEMU names them; `vpc` is VHD."""

_SECTOR = 512
# magic, version, flags, capacity, grain, descriptor's offset and size, all in sectors
_VMDK = struct.Struct("<4sIIQQQQ")
_VMDK_DESCRIPTOR = 20 * _SECTOR  # what QEMU reads of it
_NO_PARENT = re.compile(rb"^parentCID\s*=\s*ffffffff\s*$", re.MULTILINE | re.IGNORECASE)
_ONE_FILE = re.compile(rb'^createType\s*=\s*"(monolithicSparse|streamOptimized)"\s*$', re.MULTILINE)
_VHD_COOKIE = b"conectix"
_VHD_TYPE_AT = 60
_VHD_KINDS = {2: "fixed", 3: "dynamic"}
_VHDX_MAGIC = b"vhdxfile"
_NO_NAME = Secret("")


def open_foreign_source(
    path: Path, image_format: ForeignFormat, *, timeout: float = DEFAULT_TIMEOUT
) -> NbdSource:
    """Open an image that stands alone for reading.

    Raises:
        NotFound: no such file.
        InvalidArgument: not of that format, or one that refers to other files.
        DataLoss: damaged.
        Unsupported: qemu-nbd is not installed, or does not know a feature of the image.
    """
    server = _serve(path, image_format, ["--read-only"], writable=False, timeout=timeout)
    try:
        return NbdSource(server, _NO_NAME, timeout=timeout)
    except Unavailable as error:
        raise server.explain(error) from error


def open_foreign_sink(
    path: Path, image_format: ForeignFormat, *, timeout: float = DEFAULT_TIMEOUT
) -> NbdSink:
    """Open an existing image for writing; raises as `open_foreign_source`."""
    server = _serve(path, image_format, [], writable=True, timeout=timeout)
    try:
        return NbdSink(server, _NO_NAME, timeout=timeout)
    except Unavailable as error:
        raise server.explain(error) from error


def _serve(
    path: Path, image_format: ForeignFormat, arguments: list[str], *, writable: bool, timeout: float
) -> QemuNbd:
    fd = open_nofollow(path, writable=writable)
    try:
        with os_errors(f"cannot read {path}"):
            _CHECKS[image_format](fd, path)
        return QemuNbd(path, fd, image_format, arguments, timeout=timeout)
    except BaseException:
        os.close(fd)
        raise


def _check_vmdk(fd: int, path: Path) -> None:
    head = os.pread(fd, _VMDK.size, 0)
    if len(head) < _VMDK.size or not head.startswith(b"KDMV"):
        raise InvalidArgument(f"{path} is not a VMDK image in one file")
    _, _, _, capacity, _, place, length = _VMDK.unpack(head)
    descriptor = (
        os.pread(fd, min(length * _SECTOR, _VMDK_DESCRIPTOR), place * _SECTOR) if place < 2**32 else b""
    )
    text = descriptor.partition(b"\0")[0].replace(b"\r", b"")
    # Without a capacity QEMU reads the descriptor's list of files instead of this one's data.
    if not capacity or not _ONE_FILE.search(text):
        raise InvalidArgument(f"{path} keeps its data in other files; only images that stand alone are taken")
    if not _NO_PARENT.search(text) or b"parentFileNameHint" in text:
        raise InvalidArgument(f"{path} has a parent; only images that stand alone are taken")


def _check_vhd(fd: int, path: Path) -> None:
    end = os.lseek(fd, 0, os.SEEK_END)
    footers = (os.pread(fd, _SECTOR, place) for place in (0, max(0, end - _SECTOR)))
    found = [
        int.from_bytes(f[_VHD_TYPE_AT : _VHD_TYPE_AT + 4], "big") for f in footers if f[:8] == _VHD_COOKIE
    ]
    if not found:
        raise InvalidArgument(f"{path} is not a VHD image")
    if any(kind not in _VHD_KINDS for kind in found):
        raise InvalidArgument(f"{path} has a parent; only images that stand alone are taken")


def _check_vhdx(fd: int, path: Path) -> None:
    if os.pread(fd, len(_VHDX_MAGIC), 0) != _VHDX_MAGIC:
        raise InvalidArgument(f"{path} is not a VHDX image")


_CHECKS = {"vmdk": _check_vmdk, "vpc": _check_vhd, "vhdx": _check_vhdx}
