"""Reading a volume that no VM may write to meanwhile."""

from __future__ import annotations

import os

from ..spi.location import FileLocation, Location
from . import image_lock
from .api import BlockSource
from .file import FileSource
from .nbd import DEFAULT_TIMEOUT
from .open import open_source


def open_held_source(location: Location, *, timeout: float = DEFAULT_TIMEOUT) -> BlockSource:
    """Open a location for reading; while a file is open no QEMU starts to write to it. As `open_source`.

    A qcow2 image is read through a QEMU of our own, which locks it; for a raw file we do.

    Raises:
        InUse: a QEMU writes to the file.
    """
    if not isinstance(location, FileLocation) or location.format != "raw":
        return open_source(location, timeout=timeout)
    with image_lock.reading(location.path) as fd:
        return FileSource(location.path, os.dup(fd))  # of the same open file, whose lock it keeps
