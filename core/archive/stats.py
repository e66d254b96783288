"""What the archive of a volume costs, from its manifests and one listing; no part is read.

    part       named by      own       cost
    a  60 B    s0            s0 60     s0 60
    b  30 B    s0 s1 s2                s0 10  s1 10  s2 10
    c  20 B    s2            s2 20     s2 20

What a snapshot frees if it alone is deleted is `own`. The costs of all snapshots add up to what they
occupy together: each part is paid in equal shares by those that name it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from ..spi.call import Call
from ..spi.errors import DataLoss, NotFound
from .intent import Timing, read_intent
from .manifest import Manifest
from .names import begin_key, manifest_key, parse, volume_prefix
from .store import Store, head_size, keys_under, load_manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotStats:
    """One snapshot; all sizes in bytes.

    Attributes:
        created: when it was cut, as in the manifest.
        logical: of the image.
        data: of the windows that are not all zero, which is more than a file system calls used.
        own: what deleting this snapshot alone frees: parts that no other one names, manifest, intent.
        shared: parts that others name, too.
        cost: `own` and a fair share of `shared`.
    """

    snapshot: str
    parent: str | None
    created: str
    logical: int
    data: int
    own: int
    shared: int
    cost: int


@dataclass(frozen=True, slots=True)
class Objects:
    """So many objects, of `size` bytes together."""

    count: int = 0
    size: int = 0

    def __add__(self, other: Objects) -> Objects:
        return Objects(self.count + other.count, self.size + other.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeStats:
    """A volume in the archive; `stored` is the sum of all costs and of the four kinds of objects.

    Attributes:
        snapshots: oldest first.
        stored: bytes of everything below the volume's prefix.
        running: what backups that may still commit have put.
        unneeded: what the next `collect` frees: parts of killed runs and of deleted snapshots.
        unclear: what may belong to `damaged`; `collect` frees nothing then.
        foreign: objects that are none of Bollard's and are never touched.
        missing: parts that a manifest names, and that are not there or have another size.
        damaged: what is wrong with each manifest or intent that cannot be read.
    """

    volume: str
    snapshots: tuple[SnapshotStats, ...]
    stored: int
    running: Objects
    unneeded: Objects
    unclear: Objects
    foreign: Objects
    missing: tuple[str, ...]
    damaged: tuple[str, ...]


def volume_stats(store: Store, volume: str, now: float, timing: Timing, call: Call) -> VolumeStats:
    """Return what a volume costs; `now` in seconds since the epoch tells which intents are alive."""
    return _Survey(store, volume, now, timing, call).run()


@dataclass(slots=True)
class _Survey:
    """One look at a volume. Manifests are read one after the other; what is kept of them is small.

    Attributes:
        listed: every key with its size.
        rows: a snapshot each; `own` is the size of its manifest and intent until `_with_parts`.
        users: for each part that is named, a bit for each of `rows` that names it.
        doubtful: named parts that the listing does not show so: key, size, snapshot.
        settled: keys of manifests, and of the intents of what was committed.
    """

    store: Store
    volume: str
    now: float
    timing: Timing
    call: Call
    listed: dict[str, int] = field(default_factory=dict)
    rows: list[SnapshotStats] = field(default_factory=list)
    users: dict[str, int] = field(default_factory=dict)
    doubtful: list[tuple[str, int, str]] = field(default_factory=list)
    settled: set[str] = field(default_factory=set)
    damaged: list[str] = field(default_factory=list)

    def run(self) -> VolumeStats:
        self.listed = {i.key: i.size for i in keys_under(self.store, volume_prefix(self.volume), self.call)}
        for key in sorted(self.listed):
            if (name := parse(key)) and not name.attempt:
                self._read(name.snapshot)
        missing = tuple(self._missing())
        kinds = self._kinds()
        return VolumeStats(
            volume=self.volume,
            snapshots=tuple(sorted(self._with_parts(), key=lambda row: (row.created, row.snapshot))),
            stored=sum(self.listed.values()),
            running=kinds["running"],
            unneeded=kinds["unneeded"],
            unclear=kinds["unclear"],
            foreign=kinds["foreign"],
            missing=missing,
            damaged=tuple(self.damaged),
        )

    def _read(self, snapshot: str) -> None:
        self.call.check()
        try:
            manifest = load_manifest(self.store, self.volume, snapshot, self.call)
        except NotFound:  # deleted since the listing
            return
        except DataLoss as error:
            self.damaged.append(error.message)
            return
        bit = 1 << len(self.rows)
        self.rows.append(self._row(manifest))
        for window, part in manifest.parts():
            key = manifest.key_of(window, part)
            self.users[key] = self.users.get(key, 0) | bit
            if self.listed.get(key) != part.size:
                self.doubtful.append((key, part.size, snapshot))

    def _row(self, manifest: Manifest) -> SnapshotStats:
        layer = f"{manifest.snapshot}/{manifest.attempt}"
        its = {manifest_key(self.volume, manifest.snapshot), begin_key(self.volume, layer)}
        self.settled |= its
        return SnapshotStats(
            snapshot=manifest.snapshot,
            parent=manifest.parent,
            created=manifest.created,
            logical=manifest.size,
            data=sum(manifest.length_of(window) for window in manifest.windows),
            own=sum(self.listed.get(key, 0) for key in its),
            shared=0,
            cost=0,
        )

    def _missing(self) -> Iterator[str]:
        """Yield the doubtful parts that are wrong: neither listed late nor deleted meanwhile."""
        for key, size, snapshot in self.doubtful:
            found = head_size(self.store, key, self.call)
            if found is not None:
                self.listed[key] = found
            if found != size and head_size(self.store, manifest_key(self.volume, snapshot), self.call):
                yield key

    def _with_parts(self) -> Iterator[SnapshotStats]:
        """Yield the rows with their parts, which are summed up first by who names them."""
        sizes: Counter[int] = Counter()
        for key, users in self.users.items():
            sizes[users] += self.listed.get(key, 0)
        for number, row in enumerate(self.rows):
            bit = 1 << number
            own = row.own + sizes[bit]
            others = [(users, size) for users, size in sizes.items() if users & bit and users != bit]
            share = sum(_share(size, users, number) for users, size in others)
            yield replace(row, own=own, shared=sum(size for _, size in others), cost=own + share)

    def _kinds(self) -> dict[str, Objects]:
        """Sort what belongs to no snapshot by who may still want it."""
        alive = self._alive()
        found = dict.fromkeys(("running", "unneeded", "unclear", "foreign"), Objects())
        for key, size in self.listed.items():
            if key in self.settled or key in self.users:
                continue
            name = parse(key)
            if name is None:
                kind = "foreign"
            elif name.attempt and name.layer in alive:
                kind = "running"
            else:
                kind = "unclear" if self.damaged else "unneeded"
            found[kind] += Objects(1, size)
        return found

    def _alive(self) -> set[str]:
        """Return the layers that an intent protects, as `collect` sees it."""
        layers: set[str] = set()
        for name in map(parse, sorted(self.listed)):
            if name is None or not name.attempt or name.part:
                continue
            try:
                intent = read_intent(self.store, self.volume, name.layer, self.call)
            except DataLoss as error:
                self.damaged.append(error.message)
                continue
            if intent and not intent.is_dead(self.now, self.timing):
                layers |= {intent.layer, *intent.layers}
        return layers


def _share(size: int, users: int, number: int) -> int:
    """Return what user `number` pays of `size`; the odd bytes are the first one's, so that sums are exact."""
    count = users.bit_count()
    first = users & -users == 1 << number
    return size // count + (size % count if first else 0)
