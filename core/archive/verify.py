"""Checking what is in the archive, at one of five levels, all of it or a sample.

    1 EXISTS   every part is there and has its size           no download
    2 CRC      every part is a sound ZIP (`unzip -t`)
    3 SUMS     every member is what SHA256SUMS says
    4 DIGEST   every part is the one that the manifest means  finds swapped parts
    5 IMAGE    the parts of a window add up to its content

Each level includes those before it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import IntEnum

from ..spi.call import Call
from ..spi.errors import DataLoss, InvalidArgument
from .fetch import fetch_part, region_of
from .manifest import Manifest, Window
from .parallel import Workers, run
from .part import Region
from .restore import assemble
from .store import Store, head_size


class Level(IntEnum):
    """How much is looked at."""

    EXISTS = 1
    CRC = 2
    SUMS = 3
    DIGEST = 4
    IMAGE = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What `verify` found.

    Attributes:
        parts: looked at, with `size` bytes in all.
        problems: one for each part (level 5: window) that is not as it should be, by offset.
    """

    level: Level
    windows: int
    parts: int
    size: int
    problems: tuple[DataLoss, ...]

    @property
    def ok(self) -> bool:
        """True if nothing is wrong with what was looked at."""
        return not self.problems


def verify(
    store: Store,
    manifest: Manifest,
    call: Call,
    *,
    level: Level = Level.DIGEST,
    percent: float = 100.0,
    seed: int = 0,
    workers: Workers,
) -> Report:
    """Check a snapshot; `percent` of its windows, chosen by `seed`.

    Goes on after a problem, so that one report names them all.

    Raises:
        InvalidArgument: `percent` is not above 0 and at most 100.
        StorageError: the store cannot be read (that says nothing about the archive).
    """
    if not 0 < percent <= 100:
        raise InvalidArgument(f"percent must be above 0 and at most 100, got {percent}")
    count = -(-len(manifest.windows) * percent // 100)
    chosen = random.Random(seed).sample(manifest.windows, int(count))  # noqa: S311 - a sample, not a secret
    chosen.sort(key=lambda window: window.offset)
    problems: list[tuple[int, DataLoss]] = []
    finished = 0

    def done(found: tuple[Window, list[DataLoss]]) -> None:
        nonlocal finished
        finished += 1
        call.progress(finished, len(chosen))
        problems.extend((found[0].offset, problem) for problem in found[1])

    def work(window: Window, inner: Call) -> tuple[Window, list[DataLoss]]:
        return window, _check_window(store, manifest, window, level, inner)

    run(work, chosen, done, limit=workers.limit(2 * manifest.window_size), workers=workers, call=call)
    return Report(
        level=level,
        windows=len(chosen),
        parts=sum(len(window.parts) for window in chosen),
        size=sum(part.size for window in chosen for part in window.parts),
        problems=tuple(problem for _, problem in sorted(problems, key=lambda p: p[0])),
    )


def _check_window(
    store: Store, manifest: Manifest, window: Window, level: Level, call: Call
) -> list[DataLoss]:
    problems = []
    if level is Level.IMAGE:
        try:
            assemble(store, manifest, window, memoryview(bytearray(manifest.length_of(window))), call)
        except DataLoss as problem:
            problems.append(problem)
        else:
            return []
    region = region_of(manifest, window)
    for ref in window.parts:
        key = manifest.key_of(window, ref)
        try:
            check_part(store, key, ref.size, ref.sha256, region, min(level, Level.DIGEST), call)
        except DataLoss as problem:
            problems.append(problem)
    return _distinct(problems)


def check_part(
    store: Store, key: str, size: int, sha256: str, region: Region, level: Level, call: Call
) -> None:
    """Check one part, at most at level 4.

    Raises:
        DataLoss: missing, or not as it should be; the message names the part.
    """
    if level is Level.EXISTS:
        found = head_size(store, key, call)
        if found is None:
            raise DataLoss(f"the part {key} is missing")
        if found != size:
            raise DataLoss(f"the part {key} has {found} bytes, not the {size} of the manifest")
        return
    part = fetch_part(store, key, size, sha256 if level >= Level.DIGEST else None, region, call)
    for _ in part.members(sums=level >= Level.SUMS):
        pass


def _distinct(problems: list[DataLoss]) -> list[DataLoss]:
    """Drop repetitions: level 5 stops at the first bad part, which is then found again."""
    return list({problem.message: problem for problem in problems}.values())
