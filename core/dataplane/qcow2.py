"""qcow2 images as block sources and sinks: a private qemu-nbd each, spoken to over NBD."""

from __future__ import annotations

import os
from pathlib import Path

from ...transfer_objects.secret import Secret
from ..spi.errors import Unavailable
from .file import open_nofollow
from .image_info import probe_fd, refuse_hostile
from .nbd import DEFAULT_TIMEOUT
from .nbd_source import NbdSink, NbdSource
from .qemu_nbd import QemuNbd

_NO_NAME = Secret("")
# What the archive did not store stays a hole, and what a guest zeroed becomes one.
_SPARSE = ("--discard=unmap", "--detect-zeroes=unmap")


def open_qcow2_source(path: Path, *, timeout: float = DEFAULT_TIMEOUT) -> NbdSource:
    """Open an image that stands alone for reading.

    Args:
        path: a regular file or block device, not a link.
        timeout: seconds that QEMU may stand still.

    Raises:
        InvalidArgument: not qcow2, or one that would make QEMU read something else.
        DataLoss: damaged.
        InUse: another process writes to it (a running VM).
        Unsupported: qemu-nbd is not installed, or does not know a feature of the image.
    """
    server = _serve(path, ["--read-only"], writable=False, timeout=timeout)
    try:
        return NbdSource(server, _NO_NAME, timeout=timeout)
    except Unavailable as error:
        raise server.explain(error) from error


def open_qcow2_sink(path: Path, *, timeout: float = DEFAULT_TIMEOUT) -> NbdSink:
    """Open an existing image for writing; raises as `open_qcow2_source`.

    The image is locked: a second sink, or a VM that is started meanwhile, is refused.
    """
    server = _serve(path, _SPARSE, writable=True, timeout=timeout)
    try:
        return NbdSink(server, _NO_NAME, timeout=timeout)
    except Unavailable as error:
        raise server.explain(error) from error


def _serve(path: Path, arguments: list[str] | tuple[str, ...], *, writable: bool, timeout: float) -> QemuNbd:
    fd = open_nofollow(path, writable=writable)
    try:
        refuse_hostile(probe_fd(fd, path, "qcow2"), path)
        return QemuNbd(path, fd, "qcow2", arguments, timeout=timeout)
    except BaseException:
        os.close(fd)
        raise
