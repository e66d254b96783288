"""Parts on the store as seekable files: their ends at once, the rest as it is asked for, or as one stream."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Generator, Iterator
from typing import BinaryIO, cast

from ..spi.call import Call
from ..spi.errors import DataLoss, InvalidArgument, NotFound
from .digest import window_digest
from .manifest import Manifest, PartRef, Window
from .part import Part, Region
from .store import Store

# Enough for the directory, SHA256SUMS and HASHES of a 64 MiB window with 500 extents, in one request.
_TAIL = 192 * 1024


def region_of(manifest: Manifest, window: Window) -> Region:
    """Return the window as parts see it."""
    return Region(window.offset, manifest.length_of(window), manifest.granule)


def fetch_hashes(store: Store, manifest: Manifest, window: Window, call: Call) -> bytes | None:
    """Return the granule hashes of a window, or None if they are not to be had.

    Only the end of the newest part is fetched. None is no error: the caller reads the source instead.
    """
    part = window.parts[-1]
    key = manifest.key_of(window, part)
    try:
        remote = Remote(store, key, part, call)
        hashes = Part(remote.file, part.size, region_of(manifest, window), key).hashes()
    except DataLoss:  # damaged, gone, or shorter than it should be
        return None
    return hashes if window_digest(hashes) == window.digest else None


class Remote(io.RawIOBase):
    """A part: its last 192 KiB are fetched at once, what is before them piece by piece.

    Args:
        ref: size and digest that it must have.
        whole: everything is going to be read, front to back: with one request, and hashed meanwhile.
        compare: a part that fits into its end must have its digest at once.

    Raises:
        DataLoss: here and from every read: missing, or not what `ref` says.
    """

    def __init__(
        self, store: Store, key: str, ref: PartRef, call: Call, *, whole: bool = False, compare: bool = True
    ) -> None:
        self._stream: _Stream | None = None  # first of all: `close` looks at it, whatever happens here
        self._store, self._key, self._ref, self._call = store, key, ref, call
        self._position = 0
        self._start = max(0, ref.size - _TAIL)
        self._tail = b"".join(self._end())
        if len(self._tail) != ref.size - self._start:
            raise self._wrong_size()
        self._digest = hashlib.sha256()
        if whole:
            self._stream_range(0, self._start, self._digest.update)
        if not self._start and compare:
            self._compare(hashlib.sha256(self._tail).hexdigest())

    def stream(self, start: int, end: int) -> None:
        """Fetch these bytes with one request, as they are read from front to back."""
        self._stream_range(start, min(end, self._start), lambda _: None)

    def _stream_range(self, start: int, end: int, see: Callable[[bytes], object]) -> None:
        if start < end:
            self._stream = _Stream(self._fetch(start, end), start, end, see)

    def close(self) -> None:
        """End a stream that was not read to its end; repeatable."""
        if self._stream:
            self._stream.close()
        super().close()

    @property
    def file(self) -> BinaryIO:
        """This, as the type that `zipfile` wants."""
        return cast("BinaryIO", self)

    def seekable(self) -> bool:
        """Tell that it can be sought."""
        return True

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._ref.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Return `size` bytes, fewer only at the end."""
        end = self._ref.size if size < 0 else min(self._ref.size, self._position + size)
        start, self._position = min(self._position, end), max(self._position, end)
        border = min(end, self._start)
        tail = self._tail[max(start, self._start) - self._start : max(end, self._start) - self._start]
        if start >= border:
            return tail
        if self._stream and self._stream.position <= start and border <= self._stream.end:
            return self._stream.read(start, border) + tail
        return b"".join(self._fetch(start, border)) + tail

    def check_digest(self) -> None:
        """Compare the SHA-256 of all of it; needs `whole`.

        Raises:
            DataLoss: it is another one.
        """
        if self._stream:
            self._stream.read(self._start, self._start)
            self._digest.update(self._tail)
            self._compare(self._digest.hexdigest())

    def _compare(self, digest: str) -> None:
        if digest != self._ref.sha256:
            raise DataLoss(
                f"the part {self._key} is damaged: its SHA-256 is {digest}, not {self._ref.sha256}"
            )

    def _end(self) -> Iterator[bytes]:
        """Yield the end; at most one chunk more, so that a longer object shows."""
        left = self._ref.size - self._start
        for chunk in self._fetch(self._start, None):
            yield chunk
            left -= len(chunk)
            if left < 0:
                return

    def _fetch(self, start: int, end: int | None) -> Generator[bytes]:
        length = None if end is None else end - start
        try:
            yield from self._store.get(self._key, self._call, offset=start, length=length)
        except NotFound as error:
            raise DataLoss(f"the part {self._key} is missing") from error
        except InvalidArgument as error:  # the range that it should have is not in it
            raise self._wrong_size() from error

    def _wrong_size(self) -> DataLoss:
        text = f"the part {self._key} is damaged: it does not have the {self._ref.size} bytes of the manifest"
        return DataLoss(text)


class _Stream:
    """Bytes from `position` to `end`, front to back; `see` is shown all of them, also what is skipped."""

    def __init__(
        self, chunks: Generator[bytes], position: int, end: int, see: Callable[[bytes], object]
    ) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")
        self._see = see
        self.position = position
        self.end = end

    def close(self) -> None:
        """Let go of the connection."""
        self._chunks.close()

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes from `start`, which is not behind the position, to `end`."""
        self._take(start - self.position)
        return b"".join(self._take(end - start))

    def _take(self, count: int) -> list[memoryview]:
        taken = []
        while count and (self._rest or self._more()):
            piece, self._rest = self._rest[:count], self._rest[count:]
            self.position += len(piece)
            count -= len(piece)
            taken.append(piece)
        return taken

    def _more(self) -> bool:
        chunk = next(self._chunks, b"")
        self._see(chunk)
        self._rest = memoryview(chunk)
        return bool(chunk)
