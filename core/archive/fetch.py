"""Getting parts back from the store: whole and checked, or only their ends."""

from __future__ import annotations

import hashlib
import io
from typing import BinaryIO, cast

from ..spi.call import Call
from ..spi.errors import DataLoss, InvalidArgument, NotFound
from .digest import window_digest
from .manifest import Manifest, Window
from .part import Part, Region
from .store import Store

# Enough for the directory, SHA256SUMS and HASHES of a 64 MiB window with 500 extents, in one request.
_TAIL = 192 * 1024


def region_of(manifest: Manifest, window: Window) -> Region:
    """Return the window as parts see it."""
    return Region(window.offset, manifest.length_of(window), manifest.granule)


def fetch_part(store: Store, key: str, size: int, sha256: str | None, region: Region, call: Call) -> Part:
    """Fetch a whole part and check size, digest (unless None) and structure.

    Raises:
        DataLoss: missing, or not what the manifest says; the message names the part.
    """
    file, digest = io.BytesIO(), hashlib.sha256()
    try:
        for chunk in store.get(key, call):
            file.write(chunk)
            digest.update(chunk)
            if file.tell() > size:
                break
    except NotFound as error:
        raise DataLoss(f"the part {key} is missing") from error
    if file.tell() != size:
        raise DataLoss(f"the part {key} is damaged: it does not have the {size} bytes of the manifest")
    if sha256 is not None and digest.hexdigest() != sha256:
        raise DataLoss(f"the part {key} is damaged: its SHA-256 is {digest.hexdigest()}, not {sha256}")
    return Part(file, size, region, key)


def fetch_hashes(store: Store, manifest: Manifest, window: Window, call: Call) -> bytes | None:
    """Return the granule hashes of a window, or None if they are not to be had.

    Only the end of the newest part is fetched. None is no error: the caller reads the source instead.
    """
    part = window.parts[-1]
    key = manifest.key_of(window, part)
    try:
        hashes = Part(
            open_tail(store, key, part.size, call), part.size, region_of(manifest, window), key
        ).hashes()
    except (DataLoss, NotFound, InvalidArgument):  # damaged, gone, or shorter than it should be
        return None
    return hashes if window_digest(hashes) == window.digest else None


def open_tail(store: Store, key: str, size: int, call: Call) -> BinaryIO:
    """Return a part as a seekable file of which only the end is fetched at once."""
    return cast("BinaryIO", _Tail(store, key, size, call))


class _Tail(io.RawIOBase):
    """A remote object as a seekable file: its last 192 KiB at once, what is before them piece by piece."""

    def __init__(self, store: Store, key: str, size: int, call: Call) -> None:
        self._store, self._key, self._size, self._call = store, key, size, call
        self._start = max(0, size - _TAIL)
        self._tail = b"".join(store.get(key, call, offset=self._start, length=size - self._start))
        self._position = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def read(self, size: int = -1) -> bytes:
        end = self._size if size < 0 else min(self._size, self._position + size)
        start, self._position = min(self._position, end), max(self._position, end)
        if start >= self._start:
            return self._tail[start - self._start : end - self._start]
        return b"".join(self._store.get(self._key, self._call, offset=start, length=end - start))
