"""One job's windows handed out to workers, and their results taken back; the job's thread does nothing else.

    plan ── batches ──> [ a slot? ] ──> engine ──> results ──> the manifest that nobody sees yet
                             ^             │ worker lost, store away for a while
                             └── again ────┘           (at most `ATTEMPTS` times each)

Meanwhile the lease is kept. If the job fails its tasks are cancelled; one that runs on finds its intent
without an heir, and what it stored is adopted by the next run or collected.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from ...transfer_objects.ids import SnapshotId, VolumeId
from ..archive.create import Copier, Creation, Done
from ..archive.plan import Task
from ..dataplane import BlockSource
from ..invoke import worth_repeating
from ..pool import Pool
from ..spi import Call, Internal, StorageError, Unavailable
from .engine import Engine
from .gate import Gate
from .task import StoredWindows, WindowTask

ATTEMPTS = 4

# How late a lease that ages, a cancelled call or a lost cluster is noticed while all workers are busy.
_TICK_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """How jobs share one engine.

    Attributes:
        gate: who is next.
        config: what workers are told of their configuration; None: each has its own.
        store: its name there.
        batch: windows per task: large enough that opening the source does not count, small enough that
            a lost worker costs little (4 windows are 256 MiB).
        lanes: windows that a worker has in hand at once in one task.
        timeout: seconds for one task.
    """

    engine: Engine
    gate: Gate
    config: Path | None
    store: str
    batch: int = 4
    lanes: int = 2
    timeout: float = 3600.0


@dataclass(slots=True)
class Spreader:
    """Copies one snapshot by way of workers: a `Spread` of `VolumeSnapshots`.

    Attributes:
        group: of which pool and tenant, for the gate.
        volume: the archive's id of it.
        shares: windows done by each worker.
    """

    sharing: Sharing
    group: str
    volume: VolumeId
    shares: Counter[str] = field(default_factory=Counter)

    def __call__(self, pool: Pool, snapshot: SnapshotId, clone: VolumeId | None) -> Copier:
        """Return what copies this snapshot."""

        def copy(
            creation: Creation, source: BlockSource, tasks: Iterable[Task], done: Done, call: Call
        ) -> None:
            self.sharing.engine.check(pool.name)
            template = self._template(pool, snapshot, clone, source.size, creation)
            batches = _batches(template, tasks, creation.begun.adopted, self.sharing.batch)
            _Handout(self, pool.name, batches, creation, done, call).run()

        return copy

    def _template(
        self, pool: Pool, snapshot: SnapshotId, clone: VolumeId | None, size: int, creation: Creation
    ) -> WindowTask:
        """Return the task that all of this snapshot are made of, as yet without windows."""
        parent = creation.begun.parent
        return WindowTask(
            config=self.sharing.config,
            pool=pool.name,
            identity=pool.info.identity,
            store=self.sharing.store,
            volume=self.volume,
            snapshot=snapshot,
            clone=clone,
            size=size,
            layer=creation.begun.layer,
            parent=replace(parent, windows=()) if parent else None,
            adopted=(),
            options=creation.options,
            windows=(),
            lanes=self.sharing.lanes,
            timeout=self.sharing.timeout,
        )


def _batches(
    template: WindowTask, tasks: Iterable[Task], adopted: Mapping[tuple[str, int], str], size: int
) -> Iterator[WindowTask]:
    """Yield tasks of so many windows, each with the parts of earlier runs that are about them."""
    by_offset: dict[int, list[tuple[tuple[str, int], str]]] = {}
    for part, layer in adopted.items():
        by_offset.setdefault(int(part[0].partition(".")[0], 16), []).append((part, layer))
    remaining = iter(tasks)
    while windows := tuple(islice(remaining, size)):
        parts = tuple(item for window in windows for item in by_offset.get(window.offset, ()))
        yield replace(template, windows=windows, adopted=parts)


@dataclass(slots=True)
class _Handout:
    """The loop. `out` holds what workers have, `again` what has to be done once more."""

    spreader: Spreader
    pool: str
    batches: Iterator[WindowTask]
    creation: Creation
    done: Done
    call: Call
    out: dict[Future[StoredWindows], WindowTask] = field(default_factory=dict)
    again: deque[WindowTask] = field(default_factory=deque)
    failures: Counter[int] = field(default_factory=Counter)
    next: WindowTask | None = None
    ticket: Future[None] | None = None

    def run(self) -> None:
        try:
            while self._look_ahead() or self.out:
                self._wait()
        finally:
            self._let_go()

    def _look_ahead(self) -> bool:
        """Have the next task ready and ask for its slot; tell whether there is one."""
        if self.next is None:
            self.next = self.again.popleft() if self.again else next(self.batches, None)
        if self.next is not None and self.ticket is None:
            self.ticket = self.spreader.sharing.gate.ask(self.spreader.group, _keys(self.next))
        return self.next is not None

    def _wait(self) -> None:
        sharing = self.spreader.sharing
        waiting: set[Future[Any]] = {*self.out, *([self.ticket] if self.ticket else [])}
        ended, _ = wait(waiting, timeout=_TICK_SECONDS, return_when=FIRST_COMPLETED)
        self.call.check()
        self.creation.begun.lease.renew(self.call)
        if self.ticket in ended:
            self._hand_out()
        for future in [future for future in self.out if future in ended]:
            self._take(future, self.out.pop(future))
        if not ended:
            sharing.engine.check(self.pool)
            sharing.gate.look()  # workers may have come

    def _hand_out(self) -> None:
        assert self.next  # noqa: S101 - the ticket was asked for it
        task, self.next, self.ticket = self.next, None, None
        sharing, keys = self.spreader.sharing, _keys(task)
        try:
            future = sharing.engine.submit(task)
        except BaseException:
            sharing.gate.release(keys)
            raise
        future.add_done_callback(lambda _: sharing.gate.release(keys))
        self.out[future] = task

    def _take(self, future: Future[StoredWindows], task: WindowTask) -> None:
        """Tell what became of the windows, or have them done once more."""
        try:
            stored = future.result()
        except (Exception, CancelledError) as error:  # noqa: BLE001 - whatever a worker may raise
            self._failed(task, error)
            return
        if {window for window, _ in stored.windows} != set(task.windows):
            raise Internal(
                f"the worker {stored.worker} did not do what it was asked to: is it of this version?"
            )
        self.spreader.shares[stored.worker] += len(stored.windows)
        for window, result in stored.windows:
            self.done(window, result)

    def _failed(self, task: WindowTask, error: BaseException) -> None:
        self.spreader.sharing.engine.check(
            self.pool
        )  # else: a whole cluster that went looks like a lost task
        lost = self.spreader.sharing.engine.lost(error)
        self.failures[task.windows[0].offset] += 1
        if not (lost or worth_repeating(error)) or self.failures[task.windows[0].offset] >= ATTEMPTS:
            failure = _typed(error, task, lost=lost)
            raise failure from (None if failure is error else error)
        self.again.append(task)

    def _let_go(self) -> None:
        """Cancel what is still out; what runs gives its slot back when it ends."""
        if self.ticket is not None and not self.ticket.cancel() and self.next is not None:
            self.spreader.sharing.gate.release(_keys(self.next))  # granted just now
        for future in self.out:
            future.cancel()


def _keys(task: WindowTask) -> tuple[str, ...]:
    return f"pool:{task.pool}", f"store:{task.store}"


def _typed(error: BaseException, task: WindowTask, *, lost: bool) -> StorageError:
    if isinstance(error, StorageError):
        return error
    what = f"windows of {task.volume}/{task.snapshot}"
    if lost:
        return Unavailable(f"{ATTEMPTS} workers were lost over {what}; repeat the command: {error!r}")
    return Internal(f"a worker failed over {what}: {error!r}")
