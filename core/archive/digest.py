r"""Digests of granules, windows and the whole image; zeros are skipped.

    image     SHA-256( "bollard image 1\n"  | size | window size | granule |
                                                offset, digest | offset, digest | ... )
                                                   ^ windows that are not all zero
    window    SHA-256( "bollard window 1\n" | index, hash | index, hash | ... )
                                                 ^ granules that are not all zero
    granule   SHA-256 of its bytes, the last one of a volume padded with zeros

Numbers are 8 bytes, big endian; digests are the raw 32 bytes. An empty range costs nothing, an increment
recomputes the windows that changed and takes the others from its parent, and two snapshots with equal
content have equal digests however they were stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from ..dataplane.zero import is_zero

HASH = hashlib.sha256().digest_size
ZERO = bytes(HASH)
"""Stands for the hash of a granule of zeros in a list of hashes."""


def granule_hash(data: memoryview, granule: int) -> bytes:
    """Return the hash of one granule, `ZERO` if it reads as zeros."""
    if is_zero(data):
        return ZERO
    digest = hashlib.sha256(data)
    if len(data) < granule:
        digest.update(bytes(granule - len(data)))
    return digest.digest()


def window_digest(hashes: bytes | bytearray) -> str | None:
    """Return the digest (hex) of a window from the hashes of its granules; None if it is all zero."""
    digest, empty = hashlib.sha256(b"bollard window 1\n"), True
    for index, start in enumerate(range(0, len(hashes), HASH)):
        one = hashes[start : start + HASH]
        if one != ZERO:
            digest.update(index.to_bytes(8, "big") + one)
            empty = False
    return None if empty else digest.hexdigest()


def image_digest(size: int, window_size: int, granule: int, windows: Iterable[tuple[int, str]]) -> str:
    """Return the digest (hex) of an image from (offset, digest) of its windows, sorted by offset."""
    digest = hashlib.sha256(b"bollard image 1\n")
    for number in (size, window_size, granule):
        digest.update(number.to_bytes(8, "big"))
    for offset, window in windows:
        digest.update(offset.to_bytes(8, "big") + bytes.fromhex(window))
    return digest.hexdigest()
