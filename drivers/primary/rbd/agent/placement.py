"""Which placement group of a pool an object belongs to.

Ceph's ceph_str_hash_rjenkins (src/common/ceph_hash.cc, after Bob Jenkins' lookup2) and ceph_stable_mod
(src/include/rados.h). Needed to reach every group with as few requests as there are groups.
"""

from __future__ import annotations

from collections.abc import Iterator

_GOLDEN = 0x9E3779B9
_MASK = 0xFFFFFFFF
_SHIFTS = ((13, 8, 13), (12, 16, 5), (3, 10, 15))


def covering_names(groups: int, prefix: str) -> Iterator[str]:
    """Yield object names, without a namespace, one for each of the pool's `groups`."""
    missing, number = set(range(groups)), 0
    while missing:
        name = f"{prefix}{number}"
        number += 1
        group = stable_mod(rjenkins(name.encode()), groups)
        if group in missing:
            missing.remove(group)
            yield name


def stable_mod(value: int, groups: int) -> int:
    """Return the group of a hash; groups that are split keep half of their objects."""
    mask = (1 << (groups - 1).bit_length()) - 1
    return value & mask if value & mask < groups else value & (mask >> 1)


def rjenkins(text: bytes) -> int:
    """Return the hash of an object's name."""
    a, b, c = _GOLDEN, _GOLDEN, 0
    whole = len(text) - len(text) % 12
    for start in range(0, whole, 12):
        words = [int.from_bytes(text[at : at + 4], "little") for at in range(start, start + 12, 4)]
        a, b, c = _mix(a + words[0], b + words[1], c + words[2])
    tail = text[whole:]
    # The lowest byte of the third word is the length.
    a += int.from_bytes(tail[:4], "little")
    b += int.from_bytes(tail[4:8], "little")
    c += (int.from_bytes(tail[8:], "little") << 8) + len(text)
    return _mix(a, b, c)[2]


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    a, b, c = a & _MASK, b & _MASK, c & _MASK
    for first, second, third in _SHIFTS:
        a = ((a - b - c) & _MASK) ^ (c >> first)
        b = ((b - c - a) & _MASK) ^ ((a << second) & _MASK)
        c = ((c - a - b) & _MASK) ^ (b >> third)
    return a, b, c
