"""The images that everybody gets."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

KIB, MIB, GIB = 1024, 1024**2, 1024**3

# As the words of logs and source: deflate makes 3 of 10 bytes of it.
_WORDS = [bytes(random.Random(n).choices(b"etaoinshrdlucmfw", k=2 + n % 9)) + b" " for n in range(4096)]


@dataclass(frozen=True, slots=True)
class Image:
    """A raw, sparse file; `extents` are where its data lie, (offset, length)."""

    path: Path
    size: int
    extents: tuple[tuple[int, int], ...]

    @property
    def data(self) -> int:
        """Bytes of data."""
        return sum(length for _, length in self.extents)


def _text(source: random.Random, length: int) -> bytes:
    return b"".join(source.choices(_WORDS, k=length // 6))[:length].ljust(length, b".")


def make(path: Path, kind: str, size: int, data: int, *, piece: int = MIB, seed: int = 0) -> Image:
    """Write an image.

    Args:
        kind: "text", which shrinks, or "random".
        size: bytes; the rest are holes.
        data: bytes of data, in pieces spread evenly.
        piece: bytes of each.
        seed: other data for another seed: who keeps what it knows already would store nothing twice.
    """
    source, count = random.Random(f"{seed} {path.name}"), max(1, data // piece)
    step = max(piece, size // count // (64 * KIB) * (64 * KIB))
    offsets = [number * step for number in range(count) if number * step + piece <= size]
    with path.open("wb") as file:
        for offset in offsets:
            file.seek(offset)
            file.write(_text(source, piece) if kind == "text" else source.randbytes(piece))
        file.truncate(size)
        file.flush()
        os.fsync(file.fileno())
    return Image(path, size, tuple((offset, piece) for offset in offsets))


def changes(image: Image, kind: str, count: int, seed: int) -> Iterator[tuple[int, int]]:
    """Write `count` times 4 KiB into the data, "scattered" or "clustered"; yields where, sorted."""
    source = random.Random(seed)
    blocks = [offset + at for offset, length in image.extents for at in range(0, length, 4 * KIB)]
    begin = source.randrange(max(1, len(blocks) - count))
    chosen = sorted(source.sample(blocks, count)) if kind == "scattered" else blocks[begin : begin + count]
    with image.path.open("r+b") as file:
        for offset in chosen:
            file.seek(offset)
            file.write(source.randbytes(4 * KIB))
            yield offset, 4 * KIB
        file.flush()
        os.fsync(file.fileno())


def small(directory: Path, count: int, seed: int) -> list[Image]:
    """Make so many volumes of 16 MiB with 64 KiB of data each."""
    directory.mkdir()
    return [
        make(directory / f"{number:05}.raw", "random", 16 * MIB, 64 * KIB, piece=64 * KIB, seed=seed)
        for number in range(count)
    ]
