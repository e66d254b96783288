"""Archiving a snapshot. The order of the steps is what makes it survive a crash (docs/archive-format.md).

1 read the manifest of the parent
2 put begin.json, which names all layers of the parent
3 read the parent's manifest again        gone or other: stop; collect may not have seen 2
4 put the parts, in any order
5 look at every part that the manifest names
6 read begin.json again                   gone, or the lease is over: stop
7 put manifest.json                       <- before this nothing is visible, after it everything
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from ..dataplane.api import BlockSource
from ..dataplane.zero import GRANULE
from ..spi.call import Call
from ..spi.errors import Conflict, DataLoss, InvalidArgument
from ..spi.image_store import Body
from ..spi.model import Extent
from ..spi.traits import TIB
from .begin import Begun
from .build import Builder, beside
from .canonical import time_text
from .digest import image_digest
from .fetch import fetch_hashes
from .lanes import Lanes
from .manifest import MAX_SECTOR, MAX_WINDOW, MIN_GRANULE, ORIGIN, Manifest, PartRef, Window
from .names import layer_prefix, manifest_key, part_name
from .packing import Compression, check_compression
from .parallel import Workers, run
from .part import MAX_FRAME, Region
from .plan import Task, plan
from .store import Store, head_size, keys_under, load_manifest
from .window import Outgrown, WindowReader, capture

MIB = 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateOptions:
    """How a snapshot is stored. An increment has the windows and granules of its parent.

    Attributes:
        window_size: bytes per part; None: the parent's, else 64 MiB, 128 MiB above 8 TiB.
        granule: bytes that are stored or not as a whole; a power of two up to 4 MiB that divides window_size.
        compression: "stored", "deflate", "zstd", or "auto": zstd (where it is installed) for the frames of
            which a sample shrinks.
        sector_size: logical sector of the source in bytes, for whoever restores it.
        created: when the snapshot was cut; None: now.
        origin: a remark, such as the driver's name.
    """

    window_size: int | None = None
    granule: int | None = None
    compression: Compression = "stored"
    sector_size: int = 512
    created: datetime | None = None
    origin: str = ""

    def __post_init__(self) -> None:
        if not ORIGIN.fullmatch(self.origin):
            raise InvalidArgument("origin must be at most 200 printable ASCII characters")
        if not 1 <= self.sector_size <= MAX_SECTOR:
            raise InvalidArgument(f"sector_size must be from 1 to {MAX_SECTOR}, got {self.sector_size}")
        if self.created and self.created.tzinfo is None:
            raise InvalidArgument("created must have a time zone")
        check_compression(self.compression)

    def raster(self, size: int, parent: Manifest | None) -> tuple[int, int]:
        """Return window size and granule.

        Raises:
            InvalidArgument: they do not fit together, or differ from the parent's.
        """
        if parent:
            if (self.window_size or parent.window_size, self.granule or parent.granule) != (
                parent.window_size,
                parent.granule,
            ):
                raise InvalidArgument("an increment has the window size and granule of its parent")
            return parent.window_size, parent.granule
        window = self.window_size or (128 * MIB if size > 8 * TIB else 64 * MIB)
        granule = self.granule or min(GRANULE, window)
        fits = MIN_GRANULE <= granule <= MAX_FRAME and granule & (granule - 1) == 0
        if window > MAX_WINDOW or not fits or window % granule:
            raise InvalidArgument(
                "granule must be a power of two from 512 to 4 MiB that divides window_size (<= 1 GiB)"
            )
        return window, granule


Done = Callable[[Task, Window | None], None]
"""Told what became of a task: the window's new parts, its old ones, or None if it is all zero."""


@dataclass(frozen=True, slots=True)
class Creation:
    """Steps 4 to 7."""

    store: Store
    begun: Begun
    options: CreateOptions
    workers: Workers

    def run(
        self, source: BlockSource, changed: Iterable[Extent] | None, call: Call, copy: Copier | None = None
    ) -> Manifest:
        """Store what changed and commit; return what is in the archive then."""
        return self.commit(self.copied(source, changed, call, copy or Creation.copy), call)

    def copied(
        self, source: BlockSource, changed: Iterable[Extent] | None, call: Call, copy: Copier
    ) -> Manifest:
        """Step 4: store what changed; return the manifest, which nobody can see yet."""
        window_size, granule = self.options.raster(source.size, self.begun.parent)
        inherited = self.begun.parent.windows if self.begun.parent else ()
        windows = {window.offset: window for window in inherited if window.offset < source.size}
        position = 0

        def done(task: Task, window: Window | None) -> None:
            nonlocal position
            windows.pop(task.offset, None)
            if window:
                windows[task.offset] = window
            position = max(position, task.offset + task.length)
            call.progress(position, source.size)

        copy(self, source, plan(source, window_size, granule, self.begun.parent, changed), done, call)
        call.progress(source.size, source.size)
        return self._manifest(source.size, window_size, granule, windows)

    def copy(self, source: BlockSource, tasks: Iterable[Task], done: Done, call: Call) -> None:
        """Store some windows, on this machine; the lease is renewed or at least looked at meanwhile."""
        window_size, granule = self.options.raster(source.size, self.begun.parent)
        count, size = self.workers.count, min(window_size, source.size)

        def tick() -> None:
            self.begun.lease.renew(call)

        with Lanes(source, count, size, self.workers.budget) as lanes, beside(count) as pool:

            def attempt(task: Task, inner: Call) -> Window | None:
                region = Region(task.offset, task.length, granule)
                with lanes.take(task.need) as lane:
                    reader = WindowReader(lane.connection, lane.buffer, region, inner)
                    builder = Builder(self.options.compression, pool, lane, region)
                    return self._store_window(reader, task, builder, inner)

            def work(task: Task, inner: Call) -> tuple[Task, Window | None]:
                try:
                    return task, attempt(task, inner)
                except Outgrown:
                    return task, attempt(replace(task, ranges=None, need=task.length), inner)

            run(
                work,
                tasks,
                lambda result: done(*result),
                limit=count,
                workers=self.workers,
                call=call,
                tick=tick,
            )

    def _store_window(self, reader: WindowReader, task: Task, builder: Builder, call: Call) -> Window | None:
        def fetch_old() -> bytes | None:
            assert self.begun.parent  # noqa: S101 - a base comes from a parent
            assert task.base  # noqa: S101 - capture asks only then
            return fetch_hashes(self.store, self.begun.parent, task.base, call)

        content = capture(reader, task, fetch_old, builder)
        if content.digest is None:
            return None
        if content.part is None:
            return task.base
        older = task.base.parts if task.base and not content.whole else ()
        name = part_name(task.offset, content.part.sha256)
        layer = self.begun.adopted.get((name, content.part.size))
        if layer is None:
            layer = self.begun.layer
            self.store.put(layer_prefix(self.begun.volume, layer) + name, content.part.body(), call)
        part = PartRef(layer, content.part.size, content.part.sha256)
        return Window(task.offset, content.digest, (*older, part))

    def _manifest(self, size: int, window_size: int, granule: int, windows: dict[int, Window]) -> Manifest:
        ordered = tuple(windows[offset] for offset in sorted(windows))
        snapshot, _, attempt = self.begun.layer.partition("/")
        assert self.options.created  # noqa: S101 - Archive.create filled it in
        return Manifest(
            volume=self.begun.volume,
            snapshot=snapshot,
            attempt=attempt,
            parent=self.begun.parent.snapshot if self.begun.parent else None,
            created=time_text(int(self.options.created.timestamp() * 1000)),
            origin=self.options.origin,
            size=size,
            sector_size=self.options.sector_size,
            window_size=window_size,
            granule=granule,
            digest=image_digest(size, window_size, granule, ((w.offset, w.digest) for w in ordered)),
            windows=ordered,
        )

    def commit(self, manifest: Manifest, call: Call) -> Manifest:
        """Steps 5 to 7; return what is in the archive now.

        Raises:
            Conflict: the intent was removed, or another image was committed under this id.
            DeadlineExceeded: the lease is over.
            DataLoss: a part that the manifest needs is gone.
        """
        body, last_moment = self.sealed(manifest, call)
        # Without conditional put the later of two runs wins: both manifests are complete and right.
        exclusive = self.store.traits().conditional_put
        key = manifest_key(manifest.volume, manifest.snapshot)
        try:
            self.store.put(key, body, last_moment, if_absent=exclusive)
        except Conflict:
            winner = load_manifest(self.store, manifest.volume, manifest.snapshot, call)
            if winner.digest != manifest.digest:
                raise
            return winner
        return manifest

    def sealed(self, manifest: Manifest, call: Call) -> tuple[Body, Call]:
        """Steps 5 and 6: return what is to be put, and until when; raises as `commit`."""
        self.begun.lease.renew(call)
        try:
            check_parts(self.store, manifest, self.workers, call)
        except DataLoss:
            self.begun.lease.confirm(call)  # if it is lost, collect has every right to what is missing
            raise
        data = manifest.to_bytes()
        Manifest.from_bytes(data, manifest.volume, manifest.snapshot)  # what nobody can read is no backup
        return Body.of(data), self.begun.lease.confirm(call)


Copier = Callable[[Creation, BlockSource, Iterable[Task], Done, Call], None]
"""Stores all of the tasks' windows, here (`Creation.copy`) or on other machines, and tells `done` in the
caller's thread; must keep the lease while it does."""


def check_parts(store: Store, manifest: Manifest, workers: Workers, call: Call) -> None:
    """Check that every part that a manifest names is there and has its size.

    Whole layers are listed, a thousand parts per request; what a listing does not show is asked for.

    Raises:
        DataLoss: naming the part.
    """
    listed: dict[str, int] = {}
    if store.traits().listing_consistent:
        for layer in manifest.layers():
            listed |= {
                item.key: item.size for item in keys_under(store, layer_prefix(manifest.volume, layer), call)
            }
    sizes = {manifest.key_of(window, part): part.size for window, part in manifest.parts()}

    def check(key: str, inner: Call) -> None:
        if head_size(store, key, inner) != sizes[key]:
            raise DataLoss(
                f"the part {key} is missing or does not have the {sizes[key]} bytes of the manifest"
            )

    doubtful = (key for key, size in sizes.items() if listed.get(key) != size)
    run(check, doubtful, lambda _: None, limit=workers.count, workers=workers, call=call)
