"""Tasks on a Dask cluster, each on a worker that reaches its pool.

    dask scheduler --host 10.0.0.1
    dask worker tcp://10.0.0.1:8786 --nthreads 4 --resources "pool:ssd-1=4 pool:ssd-2=4"

A worker's tag is a Dask resource: `pool:NAME=N` says that it reaches the pool, and reads it in at most N
tasks at once. Whoever reaches a scheduler runs code on its workers: docs/fleet.md has what follows.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any

from ..spi import Unavailable, Unsupported
from .task import StoredWindows, WindowTask, store_windows

try:
    import distributed
except ImportError as error:  # the extra is not installed
    raise Unsupported("the engine dask://… needs Dask: pip install 'bollard[dask]'") from error

# What the scheduler is asked for who is there, at most so often.
_LOOK = 1.0
# Tasks out per thread: one runs, and the next one waits on the worker, so that none idles.
_AHEAD = 2


class DaskEngine:
    """A client of a scheduler.

    Args:
        address: `tcp://HOST:PORT`, or `tls://…` with the certificates of Dask's own configuration.
        patience: seconds that a pool may be without any worker before its jobs fail.
        connect: seconds that the scheduler may be away; a restarted one has forgotten its tasks anyway.

    Raises:
        Unavailable: the scheduler cannot be reached.
    """

    def __init__(
        self,
        address: str,
        *,
        patience: float = 30.0,
        connect: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address
        self._patience = patience
        self._connect = connect
        self._clock = clock
        self._lock = threading.Lock()
        self._looked = -math.inf
        self._threads = 0
        self._tags: set[str] = set()
        self._seen: dict[str, float] = {}
        try:
            self._client = distributed.Client(address, timeout=connect, set_as_default=False)  # type: ignore[no-untyped-call]  # Dask
        except (OSError, TimeoutError) as error:
            raise Unavailable(f"no Dask scheduler answers at {address}") from error

    def slots(self) -> int:
        """Return how many tasks keep all workers busy, as `check` saw them last.

        It asks nobody: it is called, too, when a task has ended, in the thread that the answer would need.
        """
        return _AHEAD * self._threads

    def check(self, pool: str) -> None:
        """Raise `Unavailable` if no worker reaches a pool, or the scheduler is gone.

        A pool that had workers may be without for a while: they are restarted, or the network is cut.
        """
        self._look()
        if self._client.status != "running":
            raise Unavailable(f"the Dask scheduler at {self._address} is gone: repeat the command later")
        now = self._clock()
        if _tag(pool) in self._tags:
            self._seen[pool] = now
        elif now - self._seen.get(pool, -math.inf) >= self._patience:
            there = ", ".join(sorted(self._tags)) or "nothing"
            raise Unavailable(
                f"no Dask worker at {self._address} reaches the pool {pool!r} (they reach {there}): start one"
                f' with --resources "{_tag(pool)}=4"'
            )

    def _look(self) -> None:
        """Ask who is there, now and then."""
        with self._lock:
            if self._clock() - self._looked < _LOOK:
                return
            # A scheduler that does not answer, or that the client has given up: `check` says so.
            with suppress(OSError, TimeoutError, KeyError):
                # Not Client.scheduler_info: its answer is sometimes that of a periodic call without workers.
                scheduler: Any = self._client.scheduler
                there = self._client.sync(scheduler.identity, n_workers=-1)  # type: ignore[no-untyped-call]  # Dask
                workers = there["workers"].values()
                self._threads = sum(worker["nthreads"] for worker in workers)
                self._tags = {tag for worker in workers for tag in worker["resources"]}
            self._looked = self._clock()

    def submit(self, task: WindowTask) -> Future[StoredWindows]:
        """Hand out a task to a worker that reaches its pool."""
        self.check(task.pool)
        # Not pure: Dask would give the result of an equal task of before, and drop one of two equal ones.
        tag = {_tag(task.pool): 1}
        executor = self._client.get_executor(pure=False, resources=tag)  # type: ignore[no-untyped-call]  # Dask
        future: Future[StoredWindows] = executor.submit(store_windows, task)
        return future

    def lost(self, error: BaseException) -> bool:
        """Tell whether workers were lost, or the scheduler forgot the task when it was restarted."""
        return isinstance(error, distributed.KilledWorker | CancelledError)

    def close(self) -> None:
        """Close the client; tasks that nobody waits for any more are dropped."""
        with suppress(OSError, TimeoutError):
            self._client.close(timeout=self._connect)  # type: ignore[no-untyped-call]  # Dask


def _tag(pool: str) -> str:
    return f"pool:{pool}"
