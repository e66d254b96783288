"""A night's archiving: thousands of volumes on one engine, each job by itself, all in turns.

    jobs of pool a ── tenants in turn ──> [ `volumes` threads ] ─┐
    jobs of pool b ── tenants in turn ──> [ `volumes` threads ] ─┼─> gate ──> engine ──> workers
                                            cut, lease, commit   ┘
    each job ──> one Row, as soon as it is done; a failed one stops no other

A pool has threads of its own: one that is slow or away keeps only its own jobs waiting.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from ...transfer_objects.ids import SnapshotId
from ..archive import Archive, Compression, Level, Manifest
from ..snapshots import VolumeSnapshots
from ..spi import Call, Capability, Internal, InvalidArgument, NotFound, StorageError
from ..steps import step
from .engine import Engine
from .gate import Gate
from .jobs import Job, check_run, in_turns, snapshot_of
from .site import Site
from .spread import Sharing, Spreader


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much is in progress at once.

    Attributes:
        volumes: of one pool; each takes a thread of the coordinator and a snapshot on the pool.
        per_pool: tasks that read one pool; None: as many as the engine takes.
        per_store: tasks that write the store.
    """

    volumes: int = 8
    per_pool: int | None = None
    per_store: int | None = None

    def __post_init__(self) -> None:
        for name in ("volumes", "per_pool", "per_store"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise InvalidArgument(f"{name} must be at least 1, got {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What became of one job.

    Attributes:
        manifest: what is in the archive; None if it failed.
        fresh: False if it was in the archive already, from a run before.
        error: why it failed.
        seconds: it took.
        shares: windows done by each worker.
    """

    job: Job
    snapshot: SnapshotId
    manifest: Manifest | None
    fresh: bool
    error: StorageError | None
    seconds: float
    shares: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Archives many volumes to one store.

    Attributes:
        run: name of the run; repeat a run under its name to finish it.
        store: a name of the configuration.
        share: further arguments of `Sharing`, for tests.
        level: how a copy is read back before the primary snapshot goes.
        compression: of what is archived.
    """

    site: Site
    engine: Engine
    run: str
    store: str
    limits: Limits = Limits()
    share: Mapping[str, Any] = field(default_factory=dict)
    level: Level = Level.DIGEST
    compression: Compression = "stored"
    clock: Callable[[], float] = time.monotonic

    def rows(self, jobs: Sequence[Job], call: Call) -> Generator[Row, None, None]:
        """Archive them; yield a row for each as it ends. Closing the iterator cancels what is left.

        Raises:
            InvalidArgument: the run's name.
            NotFound: the store is not in the configuration.
        """
        check_run(self.run)
        self.site.store(self.store)  # a wrong name is one error, not a thousand rows
        by_pool: dict[str, list[Job]] = {}
        for job in jobs:
            by_pool.setdefault(job.pool or self.site.config.pool().name, []).append(job)
        ended: queue.SimpleQueue[Row] = queue.SimpleQueue()
        sharing, inner = self._sharing(by_pool), replace(call, cancel=threading.Event())
        with ExitStack() as stack:
            for pool, ours in by_pool.items():
                threads = ThreadPoolExecutor(self.limits.volumes, thread_name_prefix=f"fleet-{pool}")
                stack.callback(threads.shutdown, cancel_futures=True)
                for job in in_turns(ours):
                    threads.submit(lambda job: ended.put(self._row(job, sharing, inner)), job)
            stack.callback(inner.cancel.set)  # runs first: else shutting down would wait for the night
            for _ in jobs:
                yield _get(ended, call)

    def _sharing(self, pools: Mapping[str, object]) -> Sharing:
        limits = {f"pool:{pool}": self.limits.per_pool for pool in pools}
        store = self.site.store(self.store).name
        limits[f"store:{store}"] = self.limits.per_store
        gate = Gate(self.engine.slots, {key: limit for key, limit in limits.items() if limit is not None})
        return Sharing(engine=self.engine, gate=gate, store=store, **self.share)

    def _row(self, job: Job, sharing: Sharing, call: Call) -> Row:
        """Do one job; whatever goes wrong becomes its row."""
        began, spreader = self.clock(), Spreader(sharing, f"{job.pool}/{job.tenant}", job.volume)
        snapshot = snapshot_of(self.run, job.volume)
        manifest, fresh, failure = None, False, None
        try:
            manifest, fresh = self._archive(job, snapshot, spreader, step(call))
        except StorageError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - one job's bug must not stop the night
            failure = Internal(f"{type(error).__name__}: {error}")
        return Row(
            job=job,
            snapshot=snapshot,
            manifest=manifest,
            fresh=fresh,
            error=failure,
            seconds=self.clock() - began,
            shares=Counter(spreader.shares),
        )

    def _archive(
        self, job: Job, snapshot: SnapshotId, spreader: Spreader, call: Call
    ) -> tuple[Manifest, bool]:
        pool = self.site.pool(job.pool)
        # The run is the writer: repeated, it takes over at once what it had begun.
        archive = Archive(self.site.store(self.store), writer=f"fleet-{self.run}")
        service = VolumeSnapshots(
            pool=pool,
            archive=archive,
            mover=self.site.mover(),
            verify=self.level,
            spread=spreader,
            compression=self.compression,
        )
        fresh = not _has(archive, job, snapshot, call)
        if fresh:
            parent = _parent(service, job, call)
            service.take_both(job.volume, snapshot, call, parent=parent)
        if Capability.CHANGED_BLOCKS not in pool.capabilities().native:  # kept, it would only cost space
            service.release(job.volume, snapshot, call)
        return archive.show(call, volume=job.volume, snapshot=snapshot), fresh


def _get(ended: queue.SimpleQueue[Row], call: Call) -> Row:
    while True:
        call.check()
        with suppress(queue.Empty):
            return ended.get(timeout=1.0)


def _has(archive: Archive, job: Job, snapshot: SnapshotId, call: Call) -> bool:
    try:
        archive.show(call, volume=job.volume, snapshot=snapshot)
    except NotFound:
        return False
    return True


def _parent(service: VolumeSnapshots, job: Job, call: Call) -> SnapshotId | None:
    if job.parent == "none":
        return None
    return service.newest(job.volume, call) if job.parent == "auto" else SnapshotId(job.parent)
