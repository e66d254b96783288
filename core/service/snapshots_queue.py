"""Backups in the background: some at a time per host, per pool and in all; tried again when they are due.

    catalog: wanted, due ──look()──> gate: host, pool ──> thread ── SnapshotService.backup ──┐
         ^                                                                                   │
         └────────────────────── failed: due later · done · given up ────────────────────────┘

The queue itself is the catalog: a killed process loses none, and another one's `look` finds them. The limits
are those of one process.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Self

from ...transfer_objects.ids import SnapshotId
from ..fleet.gate import Gate, Keys
from ..settings import SNAPSHOTS_PER_HOST, SNAPSHOTS_PER_POOL, Settings, Where
from ..spi import Busy, Call, Progress, StorageError
from .snapshots import SnapshotService

_log = logging.getLogger("bollard.service")

_PAGE = 100  # that one look takes from the catalog


class _Limits(Mapping[str, int]):
    """A limit for any key of the form host:… or pool:…, as it is set now."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __getitem__(self, key: str) -> int:
        kind, _, name = key.partition(":")
        if kind == "host":
            return self._settings.get(SNAPSHOTS_PER_HOST, Where())
        return self._settings.get(SNAPSHOTS_PER_POOL, Where(pool=name))

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _tell_nobody(snapshot: SnapshotId, done: int, total: int) -> None:
    """Default of `progress`."""


class BackupQueue:
    """Runs backups in threads. Close it, or use `with`: what is under way is cancelled, and due again.

    Args:
        threads: how many backups at a time in all.
        new_call: makes the call of one attempt, with its deadline.
        progress: called from the threads with the snapshot and the bytes that were looked at, of all.
    """

    def __init__(
        self,
        service: SnapshotService,
        *,
        threads: int = 4,
        new_call: Callable[[], Call],
        progress: Callable[[SnapshotId, int, int], None] = _tell_nobody,
    ) -> None:
        self._service = service
        self._new_call = new_call
        self._progress = progress
        self._gate = Gate(lambda: threads, _Limits(service.ctx.settings))
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="backup")
        self._lock = threading.Lock()
        self._taken: dict[SnapshotId, Future[None]] = {}
        self._calls: dict[SnapshotId, Call] = {}
        self._closed = False

    def look(self) -> int:
        """Take what is due; return how many were taken. Call it now and then, and after `create`."""
        names = [SnapshotId(name) for name in self._service.records.due(_PAGE)]
        return sum(self._take(name) for name in names)

    def _take(self, snapshot: SnapshotId) -> bool:
        order = self._service.records.get(snapshot).order
        keys: Keys = (f"pool:{order.pool}", *([f"host:{order.host}"] if order.host else []))
        with self._lock:
            if self._closed or snapshot in self._taken:
                return False
            self._taken[snapshot] = Future()
        ticket = self._gate.ask(order.pool, keys)
        ticket.add_done_callback(lambda _: self._start(snapshot, keys))
        return True

    def _start(self, snapshot: SnapshotId, keys: Keys) -> None:
        with self._lock:
            if not self._closed:
                self._threads.submit(self._run, snapshot, keys)
                return
        self._done(snapshot, keys)

    def _run(self, snapshot: SnapshotId, keys: Keys) -> None:
        call = self._call(snapshot)
        try:
            with self._lock:
                self._calls[snapshot] = call
                closed = self._closed
            if not closed:
                self._service.backup(snapshot, call)
        except Busy:
            _log.info("somebody else archives snapshot %s", snapshot)
        except StorageError as error:
            _log.warning("snapshot %s is not archived yet: %s", snapshot, error)
        finally:
            self._done(snapshot, keys)

    def _call(self, snapshot: SnapshotId) -> Call:
        made = self._new_call()
        progress: Progress = lambda done, total: self._progress(snapshot, done, total)  # noqa: E731 - one line
        return Call(deadline=made.deadline, cancel=made.cancel, clock=made.clock, progress=progress)

    def _done(self, snapshot: SnapshotId, keys: Keys) -> None:
        with self._lock:
            self._calls.pop(snapshot, None)
            taken = self._taken.pop(snapshot)
        self._gate.release(keys)
        taken.set_result(None)

    def cancel(self, snapshot: SnapshotId) -> None:
        """Cancel a backup that this queue runs, at once; others see it in the catalog."""
        self._service.cancel(snapshot)
        with self._lock:
            call = self._calls.get(snapshot)
        if call is not None:
            call.cancel.set()

    def drain(self, seconds: float) -> bool:
        """Wait until all that was taken has ended, at most so long; tell whether it has."""
        with self._lock:
            taken = list(self._taken.values())
        return not wait(taken, timeout=seconds).not_done

    def close(self) -> None:
        """Stop what is under way, without counting it as an attempt that failed; repeatable."""
        with self._lock:
            self._closed = True
            for call in self._calls.values():
                call.cancel.set()
        self._threads.shutdown(wait=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
