"""NBD exports as block sources and sinks.

`clone()` opens another connection only where the server promises that connections see each other's
writes and flushes (CAN_MULTI_CONN). Elsewhere clones share one connection and take turns: a second
connection could read stale data there, or wait for ever in the backlog of a server that serves one
client at a time (qemu-nbd without --shared).
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from ...transfer_objects.secret import Secret
from ..spi.errors import DataLoss, InvalidArgument, PermissionDenied
from ..spi.model import Extent
from .endpoint import Endpoint
from .extents import clip, merge
from .nbd import DEFAULT_TIMEOUT, NbdClient
from .nbd_wire import ExportFlag


class NbdSource:
    """An export, readable.

    Args:
        endpoint: where to connect.
        export: its name.
        size: bytes that it must have, or None.
        timeout: seconds that the server may stand still.
        tls: encrypt with this context.

    Raises:
        DataLoss: the export has another size than `size`: what we know about it is stale.
        StorageError: as `nbd_handshake.negotiate`.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        export: Secret,
        *,
        size: int | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._name = export
        self._timeout = timeout
        self._tls = tls
        self._client = NbdClient(endpoint, export, timeout=timeout, tls=tls)
        self._open = True
        try:
            self._check(size)
        except BaseException:
            self.close()
            raise

    def _check(self, size: int | None) -> None:
        if size is not None and size != self.size:
            raise DataLoss(f"stale size: the export has {self.size} bytes, expected were {size}")

    @property
    def size(self) -> int:
        """Size of the export in bytes."""
        return self._client.export.size

    def clone(self) -> Self:
        """Return another user of the export; see the module for when it is another connection."""
        if self._client.export.flags & ExportFlag.CAN_MULTI_CONN:
            return type(self)(
                self._endpoint, self._name, size=self.size, timeout=self._timeout, tls=self._tls
            )
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__, _client=self._client.share())
        return twin

    def close(self) -> None:
        """Close; repeatable."""
        if self._open:
            self._open = False
            self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """Yield extents that cover the range; one DATA extent where the server cannot tell."""
        self._check_range(offset, length)
        return merge(clip(self._block_status(offset, offset + length), offset, length))

    def _block_status(self, offset: int, end: int) -> Iterator[Extent]:
        block = self._client.export.minimum
        position = offset // block * block
        end = min(-(-end // block) * block, self.size)
        while position < end:
            for extent in self._client.block_status(position, end - position):
                yield extent
                position = extent.end

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill all of `buffer`, through a bounce buffer where the export wants whole blocks."""
        self._check_range(offset, len(buffer))
        block = self._client.export.minimum
        end = offset + len(buffer)
        low, high = offset // block * block, min(-(-end // block) * block, self.size)
        if (low, high) == (offset, end):
            self._client.read_into(offset, buffer)
            return
        bounce = memoryview(bytearray(high - low))
        self._client.read_into(low, bounce)
        buffer[:] = bounce[offset - low : end - low]

    def _check_range(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise InvalidArgument(f"{length} bytes at {offset} lie outside of the {self.size} bytes")


class NbdSink(NbdSource):
    """An export, writable. Writes must be whole blocks where the export has a minimum block size."""

    def _check(self, size: int | None) -> None:
        super()._check(size)
        if self._client.export.flags & ExportFlag.READ_ONLY:
            raise PermissionDenied("the export is read-only")

    def write(self, offset: int, data: memoryview | bytes) -> None:
        """Write all of `data`, several requests in flight."""
        self._check_range(offset, len(data))
        self._client.write(offset, memoryview(data))

    def zero(self, offset: int, length: int) -> None:
        """Make the range read as zeros; the server may deallocate it."""
        self._check_range(offset, length)
        self._client.write_zeroes(offset, length)

    def flush(self) -> None:
        """Make everything written through any clone durable."""
        self._client.flush()
