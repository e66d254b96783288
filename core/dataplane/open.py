"""From a location to something that can be read or written."""

from __future__ import annotations

import ssl

from ..spi.errors import PermissionDenied
from ..spi.location import FileLocation, Location, NbdLocation, RbdLocation
from .api import BlockSink, BlockSource
from .endpoint import SocketEndpoint
from .file import FileSink, FileSource
from .iscsi import open_iscsi_sink, open_iscsi_source
from .nbd import DEFAULT_TIMEOUT
from .nbd_source import NbdSink, NbdSource
from .qcow2 import open_qcow2_sink, open_qcow2_source
from .rbd import open_rbd_sink, open_rbd_source


def open_source(
    location: Location, *, timeout: float = DEFAULT_TIMEOUT, tls: ssl.SSLContext | None = None
) -> BlockSource:
    """Open a location for reading.

    Args:
        location: where a driver says that the bytes are.
        timeout: seconds that a server may stand still.
        tls: for NBD over TCP: encrypt, and refuse a server that does not.

    Raises:
        NotFound: no such file, export, target, LUN or image.
        InvalidArgument: not an image of the stated format, or one that refers to other files.
        DataLoss: the image is damaged, or the export has another size than the location says.
        Unauthenticated: the target or cluster refuses the name or its secret.
        PermissionDenied: the image is not this user's.
        Unavailable: the server cannot be reached.
        Unsupported: a tool is not installed.
    """
    if isinstance(location, FileLocation):
        if location.format == "qcow2":
            return open_qcow2_source(location.path, timeout=timeout)
        return FileSource.open(location.path)
    if isinstance(location, NbdLocation):
        endpoint = SocketEndpoint(location.address, timeout=timeout)
        return NbdSource(endpoint, location.export, size=location.size, timeout=timeout, tls=tls)
    if isinstance(location, RbdLocation):
        return open_rbd_source(location, timeout=timeout)
    return open_iscsi_source(location, timeout=timeout)


def open_sink(
    location: Location, *, timeout: float = DEFAULT_TIMEOUT, tls: ssl.SSLContext | None = None
) -> BlockSink:
    """Open a location for writing; arguments and errors as `open_source`.

    Raises:
        PermissionDenied: the location or the export is read-only.
        InUse: the image is locked by another writer.
    """
    if location.read_only:
        raise PermissionDenied("the location is read-only")
    if isinstance(location, FileLocation):
        if location.format == "qcow2":
            return open_qcow2_sink(location.path, timeout=timeout)
        return FileSink.open(location.path)
    if isinstance(location, NbdLocation):
        endpoint = SocketEndpoint(location.address, timeout=timeout)
        return NbdSink(endpoint, location.export, size=location.size, timeout=timeout, tls=tls)
    if isinstance(location, RbdLocation):
        return open_rbd_sink(location, timeout=timeout)
    return open_iscsi_sink(location, timeout=timeout)
