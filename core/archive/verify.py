"""Checking what is in the archive, at one of five levels, all of it or a sample.

    1 EXISTS   every part is there and has its size           no download
    2 CRC      every part is a sound ZIP (`unzip -t`)
    3 SUMS     every member is what HASHES (in parts of version 1: SHA256SUMS) says
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
from .digest import HASH
from .fetch import Remote, region_of
from .frames import Directory, directory_of, overlay
from .manifest import Manifest, PartRef, Window
from .parallel import Workers, run
from .part import Part, Region
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

    run(work, chosen, done, limit=workers.count, workers=workers, call=call)
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
    directories: list[Directory] = []
    region = region_of(manifest, window)
    for ref in window.parts:
        try:
            if directory := check_part(store, manifest.key_of(window, ref), ref, region, level, call):
                directories.append(directory)
        except DataLoss as problem:
            problems.append(problem)
    if level is Level.IMAGE and not problems:
        try:
            _check_image(manifest, window, directories)
        except DataLoss as problem:
            problems.append(problem)
    return problems


def check_part(
    store: Store, key: str, ref: PartRef, region: Region, level: Level, call: Call
) -> Directory | None:
    """Check one part by itself; from level 2 on return its directory.

    Raises:
        DataLoss: missing, or not as it should be; the message names the part.
    """
    if level is Level.EXISTS:
        found = head_size(store, key, call)
        if found is None:
            raise DataLoss(f"the part {key} is missing")
        if found != ref.size:
            raise DataLoss(f"the part {key} has {found} bytes, not the {ref.size} of the manifest")
        return None
    remote = Remote(store, key, ref, call, whole=True, compare=level >= Level.DIGEST)
    part = Part(remote.file, ref.size, region, key)
    for _ in part.members(sums=level >= Level.SUMS, hashes=level is Level.IMAGE):
        call.check()
    if level >= Level.DIGEST:
        remote.check_digest()
    return directory_of(part, key, region)


def _check_image(manifest: Manifest, window: Window, directories: list[Directory]) -> None:
    """Compare what each part says of the granules that the window has from it with the newest part's word.

    That the data is what its own part says has been looked at.
    """
    index = overlay(manifest, window, directories)
    keys = [manifest.key_of(window, ref) for ref in window.parts]
    hashes = dict(zip(keys, (directory.hashes for directory in directories), strict=True))
    for granule, frame in enumerate(index.owners):
        place = slice(granule * HASH, (granule + 1) * HASH)
        if frame and hashes[frame.key][place] != index.hashes[place]:
            name = f"{manifest.volume}/{manifest.snapshot}"
            raise DataLoss(
                f"the window at {window.offset} of {name} does not have what {frame.key} holds of it"
            )
