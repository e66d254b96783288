"""Bodies on their way out: counted and hashed while they are read, never trusted."""

from __future__ import annotations

import hashlib
from typing import Self

from ...core.dataplane.checksum import crc32
from ...core.spi import Body, Call, DataLoss, InvalidArgument

CHUNK = 1024 * 1024
"""Bytes per read: SHA-256 and sockets gain nothing from more."""


class _Sha256:
    def __init__(self, expected: str) -> None:
        self._expected = expected
        self._hash = hashlib.sha256()

    def update(self, data: bytes) -> None:
        self._hash.update(data)

    def finish(self) -> None:
        if self._hash.hexdigest() != self._expected.lower():
            raise DataLoss(f"the body's SHA-256 is {self._hash.hexdigest()}, not {self._expected}")


class _Crc32:
    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._crc = 0

    def update(self, data: bytes) -> None:
        self._crc = crc32(data, self._crc)

    def finish(self) -> None:
        if self._crc != self._expected:
            raise DataLoss(
                f"the body's CRC-32 is {self._crc:08x}, not {self._expected:08x}: it changed in memory"
            )


class CheckedReader:
    """Reads a body once and refuses to hand out its last bytes unless all of them were right.

    A server that was told the length waits for the end that never comes, so nothing is stored.
    Where the body has a CRC-32 this is compared, at a tenth of the cost of SHA-256: whoever made the body
    has hashed its bytes, and what is looked for here is that they changed in memory since.
    """

    def __init__(self, body: Body, call: Call) -> None:
        self._body = body
        self._call = call
        self._check = _Sha256(body.sha256) if body.crc32 is None else _Crc32(body.crc32)
        self._left = body.size
        self._raw = body.open()
        if not self._left:
            self._guarded_finish()

    def __len__(self) -> int:
        """Bytes in all; HTTP libraries take the Content-Length from here."""
        return self._body.size

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes, b"" after the last.

        Raises:
            DataLoss: the body is shorter, longer or other than it said.
            DeadlineExceeded: the call ran out of time or was cancelled.
        """
        want = self._left if size < 0 else min(size, self._left)
        self._call.check()
        if not want:
            return b""
        data = self._raw.read(want)
        if not data:
            raise DataLoss(f"the body ended after {self._done} of {self._body.size} bytes")
        self._check.update(data)
        self._left -= len(data)
        if not self._left:
            self._finish()
        return data

    @property
    def _done(self) -> int:
        return self._body.size - self._left

    def _guarded_finish(self) -> None:
        try:
            self._finish()
        except DataLoss:
            self.close()
            raise

    def _finish(self) -> None:
        if self._raw.read(1):
            raise DataLoss(f"the body is longer than the {self._body.size} bytes that it said")
        self._check.finish()

    def close(self) -> None:
        """Close the body's reader; repeatable."""
        self._raw.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def md5_of(body: Body, call: Call) -> bytes:
    """Return the MD5 of a body: what older S3 servers and Swift check an upload against.

    They want it before the first byte, so the body is read twice; MD5 runs at about 0.66 GB/s.

    Raises:
        DataLoss: the body is not what it said, found before anything was sent.
    """
    digest = hashlib.md5(usedforsecurity=False)
    with CheckedReader(body, call) as reader:
        while data := reader.read(CHUNK):
            digest.update(data)
    return digest.digest()


def check_range(key: str, size: int, offset: int, length: int | None) -> int:
    """Return how many bytes the range holds.

    Raises:
        InvalidArgument: a part of the range lies outside the object.
    """
    wanted = size - offset if length is None else length
    if offset < 0 or wanted < 0 or offset + wanted > size:
        raise InvalidArgument(f"the range {offset}+{length} is outside of {key!r}, which has {size} bytes")
    return wanted
