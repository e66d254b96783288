"""Work that travels: some windows of a snapshot, described so that any process can store them.

    coordinator                                     worker
    cut, clone, begin.json (the lease) ── WindowTask ──> opens pool and store by name
    keeps the lease                                      looks at the lease: is the work still wanted?
    manifest <── StoredWindows ──────────────────────    reads, hashes, puts parts

To do a task twice, or long after the job has ended, is harmless: a part's name carries its digest, so it
is the same part; and where the intent is gone, nothing is put, or what was on its way is collected.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from ...transfer_objects.ids import SnapshotId, VolumeId
from ..archive import CreateOptions, Manifest, Window, Workers
from ..archive.begin import Begun
from ..archive.create import Creation
from ..archive.intent import WatchedLease
from ..archive.plan import Task
from ..spi import Call, Conflict, InvalidArgument
from .site import Site, site_of

# Of buffers for each lane: a window, where it is the usual one; larger ones get fewer lanes.
_LANE = 64 * 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowTask:
    """Some windows of one snapshot; picklable, and without a secret in it.

    Attributes:
        config: the worker's configuration file; None: where it looks for its own.
        pool: a name in there; `identity` is what the pool behind it must say it is.
        store: likewise a name.
        clone: what `Mover.sharing_snapshot` yielded.
        size: of the snapshot, in bytes.
        layer: where the parts go, `<snapshot>/<attempt>`; its intent is the coordinator's lease.
        parent: the manifest of the increment's parent, without its windows: the tasks have theirs.
        adopted: parts of earlier runs that these windows may use: (file name, bytes) and layer.
        lanes: windows worked on at once within the task.
        timeout: seconds that it may take.
    """

    config: Path | None
    pool: str
    identity: str
    store: str
    volume: VolumeId
    snapshot: SnapshotId
    clone: VolumeId | None
    size: int
    layer: str
    parent: Manifest | None
    adopted: tuple[tuple[tuple[str, int], str], ...]
    options: CreateOptions
    windows: tuple[Task, ...]
    lanes: int
    timeout: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredWindows:
    """What became of each window of a task, in no order, and which worker did it."""

    windows: tuple[tuple[Task, Window | None], ...]
    worker: str


def store_windows(task: WindowTask) -> StoredWindows:
    """Store the windows of a task; called on a worker, by any executor.

    Raises:
        InvalidArgument: the pool of this name is another one here.
        Conflict: the job ended, or this worker's store is not the coordinator's.
        DeadlineExceeded: the coordinator let its lease run out.
        StorageError: as the drivers say.
    """
    site, call = site_of(task.config), Call.within(task.timeout)
    store = site.store(task.store)
    begun = Begun(
        task.volume,
        task.layer,
        WatchedLease(store, task.volume, task.layer, time.time, call),  # before anything is touched
        task.parent,
        dict(task.adopted),
    )
    lanes = min(task.lanes, len(task.windows))
    workers = Workers(count=lanes, budget=_LANE * lanes)
    creation = Creation(store, begun, task.options, workers)
    done: list[tuple[Task, Window | None]] = []
    _copy(site, task, creation, done, call)
    return StoredWindows(windows=tuple(done), worker=f"{socket.gethostname()}:{os.getpid()}")


def _copy(
    site: Site, task: WindowTask, creation: Creation, done: list[tuple[Task, Window | None]], call: Call
) -> None:
    pool = site.pool(task.pool)
    if pool.info.identity != task.identity:
        text = f"the pool {task.pool!r} of this worker is {pool.info.identity}"
        raise InvalidArgument(f"{text}, that of the coordinator {task.identity}: give them different names")
    with site.mover().reading_shared(pool, task.snapshot, task.clone) as source:
        if source.size != task.size:
            raise Conflict(f"snapshot {task.snapshot} has {source.size} bytes here, not {task.size}")
        slow = pool.throttle.source(source, call)
        creation.copy(slow, task.windows, lambda window, stored: done.append((window, stored)), call)
