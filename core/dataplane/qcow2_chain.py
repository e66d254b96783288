"""Backing chains of qcow2 files: what an increment does not hold is read from the file below it.

    top   |      ####        |    changed since the middle one
    mid   |  ##        ##    |    changed since the base
    base  |##################|    a full
           ----- what one reads

The caller says which files make the chain, from its own records; each is opened without following links
and handed to QEMU as a descriptor. What a header names is compared with that and never followed, so a
file that somebody changed cannot make us read another one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...transfer_objects.secret import Secret
from ..spi.errors import DataLoss, Unavailable
from .file import open_nofollow
from .image_info import probe_fd, refuse_hostile
from .nbd import DEFAULT_TIMEOUT
from .nbd_source import NbdSink, NbdSource
from .qemu_nbd import QemuNbd, program

_NO_NAME = Secret("")


def open_chain_source(chain: Sequence[Path], *, timeout: float = DEFAULT_TIMEOUT) -> NbdSource:
    """Open a chain for reading.

    Args:
        chain: the files from top to base.
        timeout: seconds that QEMU may stand still.

    Raises:
        NotFound: a file is gone.
        DataLoss: a file is damaged, or its header names another backing file than `chain` does.
    """
    server = serve_chain(chain, ["--read-only"], timeout=timeout)
    try:
        return NbdSource(server, _NO_NAME, timeout=timeout)
    except Unavailable as error:
        raise server.explain(error) from error


def open_chain_sink(chain: Sequence[Path], *, timeout: float = DEFAULT_TIMEOUT) -> NbdSink:
    """Open a chain; the top file is written, those below are only read. Raises as `open_chain_source`."""
    # Zeros over older data become zero clusters, which take no space and hide what is below.
    server = serve_chain(chain, ["--discard=unmap", "--detect-zeroes=unmap"], timeout=timeout, writable=True)
    try:
        return NbdSink(server, _NO_NAME, timeout=timeout)
    except Unavailable as error:
        raise server.explain(error) from error


def serve_chain(
    chain: Sequence[Path],
    arguments: Sequence[str],
    *,
    timeout: float = DEFAULT_TIMEOUT,
    writable: bool = False,
) -> QemuNbd:
    """Return a server of a chain, which starts with its first client. Raises as `open_chain_source`.

    Args:
        arguments: of qemu-nbd.
        writable: the top file is opened for writing.
    """
    program()  # from here on nothing fails before QemuNbd owns what was opened
    fds: list[int] = []
    try:
        for path, below in zip(chain, [*chain[1:], None], strict=True):
            fds.append(open_nofollow(path, writable=writable and path == chain[0]))
            _check(fds[-1], path, below)
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    top, *backing = fds
    return QemuNbd(chain[0], top, "qcow2", arguments, backing=backing, timeout=timeout)


def _check(fd: int, path: Path, below: Path | None) -> None:
    info = probe_fd(fd, path, "qcow2")
    named = None if info.backing is None else Path(info.backing).name
    expected = below.name if below else None  # its directory may have been mounted elsewhere then
    if named != expected:
        raise DataLoss(f"{path} is based on {named!r}, not on {expected!r} as recorded")
    refuse_hostile(replace(info, backing=None), path)
