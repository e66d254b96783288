"""How the bytes of a member are packed: stored, deflate or zstd, and back with a bound that no bomb passes.

Each frame stands for itself: a reader of one block unpacks at most 4 MiB, and a window of text and noise
has both kinds of members.
"""

from __future__ import annotations

import zlib
from typing import Literal

from ..spi.errors import Unsupported

try:
    import zstandard

    _HAVE_ZSTD = True
except ImportError:  # the extra `fast` is not installed
    _HAVE_ZSTD = False

Compression = Literal["stored", "deflate", "zstd", "auto"]
STORED, DEFLATED, ZSTD = 0, 8, 93
"""Methods as ZIP numbers them; 93 is in APPNOTE since 6.3.8."""

# Bytes of a frame that are tried first, and what they must shrink to: zstd saves a fifth or it is left alone.
_SAMPLE = 32 * 1024
_WORTH_IT = 0.8
_ZSTD_LEVEL = 1  # 0.8 to 1 GiB/s a core; level 3 is 6 % smaller on text and slower on what is mixed
_MAX_ZSTD_WINDOW = 8 * 1024 * 1024


class PackingError(ValueError):
    """What was packed is not what its member says."""


def check_compression(compression: Compression) -> None:
    """Raise `Unsupported` if a library is missing for it."""
    if compression == "zstd" and not _HAVE_ZSTD:
        raise Unsupported("compression zstd needs the package zstandard (pip install 'bollard[fast]')")


class Packer:
    """Packs one frame after the other; belongs to one thread.

    Args:
        compression: "deflate" and "zstd": every frame, if it shrinks at all. "auto": those of which a
            sample shrinks by a fifth; zstd, or deflate where there is no zstandard.
    """

    def __init__(self, compression: Compression) -> None:
        self._auto = compression == "auto"
        self._method = STORED if compression == "stored" else DEFLATED if compression == "deflate" else ZSTD
        if self._auto and not _HAVE_ZSTD:
            self._method = DEFLATED
        self._zstd = zstandard.ZstdCompressor(level=_ZSTD_LEVEL) if self._method == ZSTD else None

    def pack(self, data: memoryview) -> tuple[int, memoryview | bytes]:
        """Return method and bytes; `data` itself if nothing is gained."""
        if self._method == STORED or (self._auto and not self._gains(data)):
            return STORED, data
        packed = self._compress(data)
        return (self._method, packed) if len(packed) < len(data) else (STORED, data)

    def _gains(self, data: memoryview) -> bool:
        """Try the beginning and the middle."""
        middle = len(data) // 2
        samples = (data[:_SAMPLE], data[middle : middle + _SAMPLE])
        return sum(len(self._compress(s)) for s in samples) < _WORTH_IT * sum(map(len, samples))

    def _compress(self, data: memoryview) -> bytes:
        if self._zstd is not None:
            return self._zstd.compress(data)
        raw = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
        return raw.compress(data) + raw.flush()


def unpack(method: int, packed: bytes | memoryview, length: int) -> bytes | memoryview:
    """Return the `length` bytes that were packed; never allocates more than that.

    Raises:
        PackingError: they are more, fewer or none, or the method is not in the format.
        Unsupported: they are zstd, and the library for it is missing.
    """
    if method == STORED:
        data = packed
    elif method == DEFLATED:
        data = _inflate(packed, length)
    elif method == ZSTD:
        data = _unzstd(packed, length)
    else:
        raise PackingError(f"compression {method} is not in the format")
    if len(data) != length:
        raise PackingError(f"{len(data)} bytes, not {length}")
    return data


def _inflate(packed: bytes | memoryview, length: int) -> bytes:
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = stream.decompress(packed, length)
        more = stream.decompress(stream.unconsumed_tail, 1)  # the end mark may still be in there
    except zlib.error as error:
        raise PackingError(str(error)) from error
    if more or not stream.eof:
        raise PackingError(f"more than {length} bytes, or cut off")
    return data


def _unzstd(packed: bytes | memoryview, length: int) -> bytes:
    if not _HAVE_ZSTD:
        raise Unsupported(
            "this part is compressed with zstd: install zstandard (pip install 'bollard[fast]')"
        )
    stream = zstandard.ZstdDecompressor(max_window_size=_MAX_ZSTD_WINDOW)
    try:
        # The library allocates what the frame's header says, so that is looked at first.
        if zstandard.frame_content_size(bytes(packed[:32])) != length:
            raise PackingError(f"its frame does not say {length} bytes")
        return stream.decompress(packed, max_output_size=length, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise PackingError(str(error)) from error
