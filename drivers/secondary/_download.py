"""Bytes on their way in: counted always, and hashed where the object says what it should be."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ...core.spi import Call, DataLoss, Unavailable

if TYPE_CHECKING:
    from hashlib import _Hash


class Expected:
    """What a download must be.

    Args:
        size: bytes.
        digest: hex digest of all of them, or "" for a range or an object of unknown origin.
        algorithm: hashlib's name of what `digest` was made with.
    """

    def __init__(self, size: int, digest: str = "", algorithm: str = "sha256") -> None:
        self.size = size
        self._digest = digest
        self._hash: _Hash | None = hashlib.new(algorithm, usedforsecurity=False) if digest else None

    def update(self, data: bytes) -> None:
        """Take note of the next bytes."""
        if self._hash is not None:
            self._hash.update(data)

    def check(self, key: str) -> None:
        """Compare the digest when all bytes are there.

        Raises:
            DataLoss: it differs.
        """
        if self._hash is not None and self._hash.hexdigest() != self._digest:
            raise DataLoss(f"the store delivered other bytes of {key!r} than were put")


def verified(chunks: Iterable[bytes], expected: Expected, key: str, call: Call) -> Iterator[bytes]:
    """Yield the chunks, the last one only if the whole is right: who reads to the end may trust it.

    Raises:
        Unavailable: the stream ended early.
        DataLoss: there are more bytes than expected, or others.
        DeadlineExceeded: the call ran out of time or was cancelled.
    """
    done = 0
    for data in chunks:
        call.check()
        done += len(data)
        expected.update(data)
        if done > expected.size:
            raise DataLoss(f"the store delivered more than the {expected.size} bytes of {key!r}")
        if done == expected.size:
            expected.check(key)
        yield data
    if done < expected.size:
        raise Unavailable(f"the connection ended after {done} of {expected.size} bytes of {key!r}")
