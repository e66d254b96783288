"""What a bitmap of an NBD export says has changed.

A connection of its own: with two meta contexts on one, servers answer each in pieces of its own length.
A server that lacks the bitmap is an error here: where extents are missing one reads everything, but
"nothing is known to have changed" must never be taken for "nothing has changed", nor silently for "all".
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from ...transfer_objects.secret import Secret
from ..spi.errors import NotFound
from ..spi.location import NbdLocation
from ..spi.model import Extent, ExtentKind
from .endpoint import Endpoint, SocketEndpoint
from .extents import merge
from .nbd import DEFAULT_TIMEOUT, NbdClient


def dirty_extents(
    location: NbdLocation,
    bitmap: str,
    *,
    timeout: float = DEFAULT_TIMEOUT,
    tls: ssl.SSLContext | None = None,
) -> AbstractContextManager[Iterator[Extent]]:
    """Connect to a location, and yield the sorted DATA extents that the bitmap has marked; as `marked`."""
    endpoint = SocketEndpoint(location.address, timeout=timeout)
    return marked(endpoint, location.export, bitmap, timeout=timeout, tls=tls)


@contextmanager
def marked(
    endpoint: Endpoint,
    export: Secret,
    bitmap: str,
    *,
    timeout: float = DEFAULT_TIMEOUT,
    tls: ssl.SSLContext | None = None,
) -> Iterator[Iterator[Extent]]:
    """Connect, and yield the sorted DATA extents that the bitmap has marked.

    Args:
        bitmap: the meta context, such as "qemu:dirty-bitmap:backup-vda".

    Raises:
        NotFound: no such export, or it does not offer this bitmap.
    """
    client = NbdClient(endpoint, export, context=bitmap.encode(), timeout=timeout, tls=tls)
    try:
        if client.export.context is None:
            raise NotFound(f"the NBD export has no bitmap {bitmap!r}")
        yield merge(extent for extent in _all(client) if extent.kind is ExtentKind.DATA)
    finally:
        client.close()


def _all(client: NbdClient) -> Iterator[Extent]:
    position = 0
    while position < client.export.size:
        for extent in client.block_status(position, client.export.size - position):
            yield extent
            position = extent.end
