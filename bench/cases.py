"""What is measured: groups of steps on one image, each group once per round on a fresh server.

round ── group ── image ── step ── every contestant, in another order each round
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.peers.contestant import Contestant
from bench.peers.images import GIB, KIB, MIB, Image, changes, make, small
from bench.peers.limits import Raw, read, sha256
from bench.peers.ours import Ours
from bench.peers.tools import Patience, TooSlow

PATIENCE = 20
"""How many times our time a contestant gets; what it did not end by then is told as "slower than"."""


@dataclass
class Series:
    """The seconds of one contestant in one case, or why there are none."""

    seconds: list[float] = field(default_factory=list)
    note: str = ""


@dataclass
class Measured:
    """All series, by case and contestant, the peak of our memory by case, and what our start takes."""

    series: dict[tuple[str, str], Series] = field(default_factory=dict)
    peaks: dict[str, float] = field(default_factory=dict)
    starts: list[float] = field(default_factory=list)

    def of(self, case: str, name: str) -> Series:
        """Return the series, a new one if need be."""
        return self.series.setdefault((case, name), Series())


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """One group's place in one round.

    Attributes:
        home: for images; the contestants have theirs.
        entrants: those that are there, ours first.
        raw: the server without anyone's format.
    """

    home: Path
    entrants: Sequence[Contestant]
    raw: Raw
    measured: Measured
    number: int
    scale: float

    def scaled(self, size: int, unit: int = MIB) -> int:
        """Return a size of the full benchmark at this scale, in whole units."""
        return max(unit, int(size * self.scale) // unit * unit)

    def step(self, case: str, name: str, act: Callable[[Contestant], None]) -> None:
        """Let all do one step; ours first in the first round, so that there is a measure of patience."""
        able = [one for one in self.entrants if one.can(name)]
        turn = self.number % len(able)
        for one in [*able[turn:], *able[:turn]]:
            self._timed(case, one, act)

    def _timed(self, case: str, one: Contestant, act: Callable[[Contestant], None]) -> None:
        series = self.measured.of(case, one.name)
        if series.note:
            return
        limit = self._patience(case)
        if isinstance(one, Ours):
            one.meter.peak = 0.0
        with patience(limit):
            began = time.monotonic()
            try:
                act(one)
            except TooSlow:
                series.note = f"stopped after {limit:.0f} s: it is slower than that"
            series.seconds.append(time.monotonic() - began)
        if isinstance(one, Ours):
            self.measured.peaks[case] = max(self.measured.peaks.get(case, 0.0), one.meter.peak)

    def _patience(self, case: str) -> float:
        known = self.measured.of(case, Ours.name).seconds
        return max(30.0, PATIENCE * max(known)) if known else 7200.0

    def start(self) -> None:
        """Measure what a run of ours takes that does nothing."""
        began = time.monotonic()
        next(one for one in self.entrants if isinstance(one, Ours)).start()
        self.measured.starts.append(time.monotonic() - began)

    def limit(self, case: str, name: str, act: Callable[[], Any]) -> None:
        """Measure what nobody can be faster than."""
        began = time.monotonic()
        act()
        self.measured.of(case, name).seconds.append(time.monotonic() - began)

    def limits(self, case: str, image: Image) -> None:
        """Measure those of a full."""
        self.limit(case, "reading the data", lambda: read(image))
        self.limit(case, "SHA-256 on all cores", lambda: sha256(image))
        self.limit(case, "raw upload", lambda: self.raw.upload(image))


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Give so much time."""
    Patience.until = time.monotonic() + seconds
    try:
        yield
    finally:
        Patience.until = float("inf")


def text(arena: Arena) -> None:
    """A full of what shrinks."""
    image = make(arena.home / "text.raw", "text", *_usual(arena), seed=arena.number)
    arena.step("full, text", "full", lambda one: one.full(image, "text"))
    arena.limits("full, text", image)


def sparse(arena: Arena) -> None:
    """A full of many islands of 64 KiB."""
    image = make(arena.home / "sparse.raw", "random", *_usual(arena), piece=64 * KIB, seed=arena.number)
    arena.step("full, islands of 64 KiB", "full", lambda one: one.full(image, "sparse"))
    arena.limits("full, islands of 64 KiB", image)


def life(arena: Arena) -> None:
    """A full of random data, two increments, the restore of the second, and verifying it."""
    image = make(arena.home / "random.raw", "random", *_usual(arena), seed=arena.number)
    arena.step("full, random", "full", lambda one: one.full(image, "base"))
    arena.limits("full, random", image)
    count = arena.scaled(64 * MIB, 4 * KIB) // (4 * KIB)
    parent = "base"
    for kind in ("scattered", "clustered"):
        changed = list(changes(image, kind, count, arena.number))
        _increment(arena, image, kind, parent, changed)
        parent = kind
    _restored(arena, image)
    arena.step("verify", "verify", lambda one: one.verify(parent))
    arena.limit("verify", "raw download", lambda: arena.raw.download(image))


def _increment(arena: Arena, image: Image, kind: str, parent: str, changed: list[tuple[int, int]]) -> None:
    case = f"increment, {kind} 4 KiB"
    arena.step(case, "increment", lambda one: one.increment(image, kind, parent, changed))


def _restored(arena: Arena, image: Image) -> None:
    """Restore, and look whether it is the image: who is fast and wrong would be no peer."""

    def restore(one: Contestant) -> None:
        one.restore("clustered" if one.can("increment") else "base", arena.home / f"{one.name}.back")

    arena.step("restore", "restore", restore)
    for one in arena.entrants:
        back = arena.home / f"{one.name}.back"
        if back.exists() and one.can("increment") and not _same(back, image):
            raise RuntimeError(f"{one.name} restored something else")
        back.unlink(missing_ok=True)
    arena.limit("restore", "raw download", lambda: arena.raw.download(image))


def _same(path: Path, image: Image) -> bool:
    if path.stat().st_size != image.size:
        return False
    with path.open("rb") as one, image.path.open("rb") as other:
        for offset, length in image.extents:
            one.seek(offset)
            other.seek(offset)
            if one.read(length) != other.read(length):
                return False
    return True


def terabyte(arena: Arena) -> None:
    """A full of 1 TiB with 1 GiB of data, and ours of 2 GiB with as much."""
    data = arena.scaled(GIB)
    wide = make(arena.home / "wide.raw", "random", arena.scaled(1024 * GIB), data, seed=arena.number)
    case = "full, 1 TiB with 1 GiB of data"
    arena.step(case, "full", lambda one: one.full(wide, "wide"))
    dense = make(arena.home / "dense.raw", "random", arena.scaled(2 * GIB), data, seed=arena.number)
    ours = arena.entrants[0]
    arena.limit(case, OURS_DENSE, lambda: ours.full(dense, "dense"))


def many(arena: Arena) -> None:
    """10,000 small volumes."""
    images = small(arena.home / "small", max(2, int(10_000 * arena.scale)), arena.number)
    arena.step("10,000 small volumes", "many", lambda one: one.many(images, "many"))


def _usual(arena: Arena) -> tuple[int, int]:
    return arena.scaled(8 * GIB), arena.scaled(2 * GIB)


GROUPS: tuple[Callable[[Arena], None], ...] = (text, sparse, life, terabyte, many)

OURS_DENSE = "2 GiB with 1 GiB of data, ours"
LIMITS = (
    "reading the data",
    "SHA-256 on all cores",
    "raw upload",
    "raw download",
    OURS_DENSE,
)
