"""Where tasks run: threads, processes, any `concurrent.futures.Executor`, or a Dask cluster.

    threads[:N]       in this process (the default)
    processes[:N]     children of this process
    dask://HOST:PORT  a Dask scheduler and its workers (`dask_engine.py`)

An engine may lose a worker at any time; durable state is in the stores, so a loss costs a retry.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Protocol

from ..spi import InvalidArgument
from .task import StoredWindows, WindowTask, store_windows

_LOCAL = re.compile(r"(?P<kind>threads|processes)(?::(?P<count>[1-9][0-9]{0,3}))?")
_DASK = re.compile(r"dask(?P<tls>\+tls)?://(?P<address>[^/\s@]+:[0-9]+)")


class Engine(Protocol):
    """Runs tasks on workers that reach the task's pool."""

    def slots(self) -> int:
        """Return how many tasks keep all workers busy, as of now."""

    def check(self, pool: str) -> None:
        """Raise `Unavailable`, saying what to do, if no worker reaches a pool; cheap, called often."""

    def submit(self, task: WindowTask) -> Future[StoredWindows]:
        """Hand out a task.

        Raises:
            Unavailable: nobody is there to take it.
        """

    def lost(self, error: BaseException) -> bool:
        """Tell whether a task failed because its worker went away: then another one may do it."""

    def close(self) -> None:
        """Let go of the workers; repeatable."""


class ExecutorEngine:
    """Any `concurrent.futures.Executor` whose workers see this machine's pools.

    Args:
        make: returns an executor; called again when the last one broke (a child was killed).
        slots: tasks that keep it busy.
    """

    def __init__(self, make: Callable[[], Executor], slots: int) -> None:
        self._make = make
        self._slots = slots
        self._executor: Executor | None = None
        self._lock = threading.Lock()

    def slots(self) -> int:
        """Return how many tasks keep all workers busy."""
        return self._slots

    def check(self, pool: str) -> None:
        """Do nothing: the workers see what this process sees."""

    def submit(self, task: WindowTask) -> Future[StoredWindows]:
        """Hand out a task, to a new executor if the last one broke."""
        with self._lock:
            if self._executor is None:
                self._executor = self._make()
            try:
                return self._executor.submit(store_windows, task)
            except BrokenExecutor:
                self._executor = self._make()
                return self._executor.submit(store_windows, task)

    def lost(self, error: BaseException) -> bool:
        """Tell whether a worker went away."""
        return isinstance(error, BrokenExecutor)

    def close(self) -> None:
        """Wait for what runs, drop what waits."""
        with self._lock:
            if self._executor is not None:
                self._executor.shutdown(cancel_futures=True)
            self._executor = None


def _processes(count: int) -> Executor:
    # Not fork: the coordinator has threads, and a lock that one of them holds would stay locked in the child.
    return ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))


@contextmanager
def open_engine(url: str = "threads") -> Iterator[Engine]:
    """Open an engine by its URL and close it in the end.

    Raises:
        InvalidArgument: no such engine.
        Unsupported: Dask is not installed.
        Unavailable: the scheduler cannot be reached.
    """
    with closing(_opened(url)) as engine:
        yield engine


def _opened(url: str) -> Engine:
    if match := _LOCAL.fullmatch(url):
        count = int(match["count"] or os.cpu_count() or 1)
        if match["kind"] == "threads":
            return ExecutorEngine(lambda: ThreadPoolExecutor(count, thread_name_prefix="fleet"), count)
        return ExecutorEngine(lambda: _processes(count), count)
    if match := _DASK.fullmatch(url):
        from .dask_engine import DaskEngine  # an extra: loaded when it is asked for

        return DaskEngine(f"{'tls' if match['tls'] else 'tcp'}://{match['address']}")
    raise InvalidArgument(f"engine {url!r} is none of threads[:N], processes[:N], dask://HOST:PORT")
