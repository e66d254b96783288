"""Looking at all of a store little by little: every run all names and sizes, and the bytes of some parts.

    0 ---------------- positions are SHA-256 of the part's key ---------------- 2^64
    |        run 7       |        run 8       |        run 9   ...              |
              *  *    *     *   *     *    *    *     *  *       *    *   *   turn 1 ends, turn 2 begins

The parts lie on a ring, each at a place of its own that no other part changes. A run looks at the next
stretch of it; so a part that stays is looked at once in every turn, whatever comes and goes meanwhile, and
a stretch is a fair sample over all volumes and ages. The cursor is all that has to be kept between runs.
A part that several snapshots share is read once.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..spi.call import Call
from ..spi.errors import DataLoss, InvalidArgument, NotFound
from .fetch import region_of
from .manifest import Manifest, PartRef
from .names import VERSION, manifest_key, parse
from .parallel import Workers, run
from .part import Region
from .store import Store, head_size, keys_under, load_manifest
from .verify import Level, check_part

RING = 2**64


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Where the next run begins; `turn` counts the rounds, `run` the runs, from 0 on."""

    position: int = 0
    turn: int = 0
    run: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.position < RING and self.turn >= 0 and self.run >= 0):
            raise InvalidArgument(f"not a place on the ring: {self}")

    def after(self, distance: int) -> Cursor:
        """Return where the run after one over such a stretch begins."""
        end = self.position + distance
        return Cursor(position=end % RING, turn=self.turn + end // RING, run=self.run + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckUp:
    """What a run found.

    Attributes:
        snapshots: whose manifests were read and whose parts are all there, but for the problems.
        parts: all that snapshots name, `size` bytes in all.
        read: how many of them were read and checked, `read_size` bytes.
        share: of the ring, from 0 to 1: at this pace a turn takes 1/share runs.
        cursor: where the next run begins.
        problems: one for each bad manifest or part, naming the snapshots that need it.
    """

    snapshots: int
    parts: int
    size: int
    read: int
    read_size: int
    share: float
    cursor: Cursor
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """True if nothing is wrong with what was looked at."""
        return not self.problems


@dataclass(slots=True)
class _Candidate:
    """A part: where, what it must be, and who needs it."""

    key: str
    ref: PartRef
    region: Region
    users: list[str]

    @property
    def size(self) -> int:
        return self.ref.size


def position_of(key: str) -> int:
    """Return the place of a key on the ring."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")


def check_up(
    store: Store,
    cursor: Cursor,
    call: Call,
    *,
    percent: float,
    budget: int | None = None,
    level: Level = Level.DIGEST,
    workers: Workers,
) -> CheckUp:
    """Look at the next stretch of the ring.

    Args:
        percent: of the ring; with 5 every part is looked at within 20 runs.
        budget: bytes to read at most (but one part at least); the stretch is shorter then.
        level: what is done to the parts of the stretch; 5 needs whole windows and is `verify`'s.

    Raises:
        InvalidArgument: `percent` is not above 0 and at most 100, `budget` is not positive, or level 5.
        StorageError: the store cannot be read (that says nothing about the archive).
    """
    if not 0 < percent <= 100:
        raise InvalidArgument(f"percent must be above 0 and at most 100, got {percent}")
    if (budget is not None and budget <= 0) or level is Level.IMAGE:
        raise InvalidArgument("the budget must be positive and the level at most 4")
    arc = min(RING, int(RING * percent / 100) + 1)  # rounded up: 100/percent runs are a whole turn
    return _Run(store, cursor, arc, budget, level, workers, call).run()


@dataclass(slots=True)
class _Run:
    """One run. `chosen` is a heap with the furthest part first, so that what exceeds the budget drops out."""

    store: Store
    cursor: Cursor
    arc: int
    budget: int | None
    level: Level
    workers: Workers
    call: Call
    chosen: list[tuple[int, str, _Candidate]] = field(default_factory=list)
    weight: int = 0
    snapshots: int = 0
    parts: int = 0
    size: int = 0
    problems: list[str] = field(default_factory=list)

    def run(self) -> CheckUp:
        for volume, listed in self._volumes():
            self._survey(volume, listed)
        parts = [candidate for _, _, candidate in self.chosen]
        self._read(parts)
        return CheckUp(
            snapshots=self.snapshots,
            parts=self.parts,
            size=self.size,
            read=len(parts),
            read_size=sum(part.size for part in parts),
            share=self.arc / RING,
            cursor=self.cursor.after(self.arc),
            problems=tuple(self.problems),
        )

    def _volumes(self) -> Iterator[tuple[str, dict[str, int]]]:
        """Yield each volume with its keys and sizes; a listing is sorted, so they lie together."""
        volume, listed = "", dict[str, int]()
        for item in keys_under(self.store, f"{VERSION}/", self.call):
            name = parse(item.key)
            if name is None:
                continue
            if name.volume != volume and listed:
                yield volume, listed
                listed = {}
            volume = name.volume
            listed[item.key] = item.size
        if listed:
            yield volume, listed

    def _survey(self, volume: str, listed: dict[str, int]) -> None:
        """Read a volume's manifests, look whether all parts are there, and choose from them."""
        found: dict[str, _Candidate] = {}
        for key in sorted(listed):
            name = parse(key)
            if name is None or name.attempt:
                continue
            try:
                manifest = load_manifest(self.store, volume, name.snapshot, self.call)
            except NotFound:  # deleted since the listing
                continue
            except DataLoss as error:
                self.problems.append(error.message)
                continue
            self.snapshots += 1
            self._take(manifest, found)
        self.parts += len(found)
        for candidate in found.values():
            self.size += candidate.size
            if listed.get(candidate.key) != candidate.size:
                self._check(candidate, Level.EXISTS)
            self._choose(candidate)

    def _take(self, manifest: Manifest, found: dict[str, _Candidate]) -> None:
        for window, part in manifest.parts():
            key = manifest.key_of(window, part)
            known = found.get(key)
            if known is None:
                region = region_of(manifest, window)
                found[key] = _Candidate(key, part, region, [manifest.snapshot])
            else:
                known.users.append(manifest.snapshot)

    def _choose(self, candidate: _Candidate) -> None:
        distance = (position_of(candidate.key) - self.cursor.position) % RING
        if distance >= self.arc:
            return
        heapq.heappush(self.chosen, (-distance, candidate.key, candidate))
        self.weight += candidate.size
        while self.budget is not None and self.weight > self.budget and len(self.chosen) > 1:
            furthest, _, dropped = heapq.heappop(self.chosen)
            self.weight -= dropped.size
            self.arc = -furthest  # the next run begins with it

    def _read(self, parts: list[_Candidate]) -> None:
        if self.level is Level.EXISTS:
            return
        finished = 0

        def work(part: _Candidate, inner: Call) -> None:
            self._check(part, self.level, inner)

        def done(_: None) -> None:
            nonlocal finished
            finished += 1
            self.call.progress(finished, len(parts))

        run(work, parts, done, limit=self.workers.count, workers=self.workers, call=self.call)

    def _check(self, part: _Candidate, level: Level, call: Call | None = None) -> None:
        call = call or self.call
        try:
            check_part(self.store, part.key, part.ref, part.region, level, call)
        except DataLoss as error:
            if users := self._still_there(part, call):
                problem = f"{error.message}; it is needed by {', '.join(users)}"
                if problem not in self.problems:
                    self.problems.append(problem)

    def _still_there(self, part: _Candidate, call: Call) -> list[str]:
        """Return the snapshots that need a part; those deleted since the listing took it with them."""
        name = parse(part.key)
        volume = name.volume if name else ""
        return [u for u in part.users if head_size(self.store, manifest_key(volume, u), call) is not None]
