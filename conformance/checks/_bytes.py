"""Whole contents, where a check compares more than a sample of blocks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from ...core.dataplane import BlockSource
from ...core.pool import Pool
from ...core.spi import Extent, ExtentKind, NotFound
from ...transfer_objects.ids import SnapshotId, VolumeId
from ..lab import MIB, Lab, must


def whole(source: BlockSource) -> bytes:
    """Return every byte of a (small) source."""
    data = bytearray(source.size)
    for at in range(0, source.size, MIB):
        source.read_into(at, memoryview(data)[at : at + MIB])
    return bytes(data)


def volume_bytes(lab: Lab, volume: VolumeId) -> bytes:
    """Return every byte of a volume, as a host reads it."""
    with lab.mover.reading_volume(lab.pool, volume) as source:
        return whole(source)


def snapshot_bytes(lab: Lab, snapshot: SnapshotId) -> bytes:
    """Return every byte of a snapshot, as the archive reads it."""
    with lab.mover.reading_snapshot(lab.pool, snapshot) as source:
        return whole(source)


def digest(lab: Lab, volume: VolumeId) -> str:
    """Return the SHA-256 of a volume's bytes."""
    return hashlib.sha256(volume_bytes(lab, volume)).hexdigest()


def first_difference(one: bytes, other: bytes) -> int | None:
    """Return the offset of the first byte that differs; a shorter one differs at its end."""
    if one == other:
        return None
    both = zip(one, other, strict=False)
    return next((at for at, (a, b) in enumerate(both) if a != b), min(len(one), len(other)))


def patched(base: bytes, delta: Iterable[Extent], target: bytes) -> bytes:
    """Return `base` with the extents of a delta applied: what an incremental restore would make."""
    made = bytearray(base[: len(target)].ljust(len(target), b"\0"))
    for extent in delta:
        part = target[extent.offset : extent.end]
        made[extent.offset : extent.end] = part if extent.kind is ExtentKind.DATA else bytes(len(part))
    return bytes(made)


def exists(pool: Pool, volume: VolumeId) -> bool:
    """Return whether the pool has a volume of this id."""
    try:
        pool.volumes.get(volume)
    except NotFound:
        return False
    return True


def must_be_absent(lab: Lab, volume: VolumeId, after: str) -> None:
    """Fail if a volume is there, by its id or in the list."""
    must(not exists(lab.pool, volume), f"volume {volume} is there after {after}")
    must(volume not in {v.id for v in lab.pool.volumes.list()}, f"{volume} is listed after {after}")
