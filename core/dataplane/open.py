"""From a location to something that can be read or written."""

from __future__ import annotations

import ssl

from ..spi.errors import PermissionDenied, Unsupported
from ..spi.location import FileLocation, IscsiLocation, Location, NbdLocation
from .api import BlockSink, BlockSource
from .endpoint import SocketEndpoint
from .file import FileSink, FileSource
from .nbd import DEFAULT_TIMEOUT
from .nbd_source import NbdSink, NbdSource
from .qcow2 import open_qcow2_sink, open_qcow2_source


def open_source(
    location: Location, *, timeout: float = DEFAULT_TIMEOUT, tls: ssl.SSLContext | None = None
) -> BlockSource:
    """Open a location for reading.

    Args:
        location: where a driver says that the bytes are.
        timeout: seconds that a server may stand still.
        tls: for NBD over TCP: encrypt, and refuse a server that does not.

    Raises:
        NotFound: no such file or export.
        InvalidArgument: not an image of the stated format, or one that refers to other files.
        DataLoss: the image is damaged, or the export has another size than the location says.
        Unavailable: the server cannot be reached.
        Unsupported: a tool is not installed, or the kind of location is not known here.
    """
    if isinstance(location, FileLocation):
        if location.format == "qcow2":
            return open_qcow2_source(location.path, timeout=timeout)
        return FileSource.open(location.path)
    if isinstance(location, NbdLocation):
        endpoint = SocketEndpoint(location.address, timeout=timeout)
        return NbdSource(endpoint, location.export, size=location.size, timeout=timeout, tls=tls)
    raise _no_iscsi(location)


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
    raise _no_iscsi(location)


def _no_iscsi(location: IscsiLocation) -> Unsupported:
    return Unsupported(
        f"target {location.target} is iSCSI: attach it to the host (open-iscsi) and use the block device, "
        "or let the driver offer NBD"
    )
