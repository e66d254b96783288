"""Running one function over many windows on any `concurrent.futures.Executor`, a few at a time.

tasks (lazy) ──> at most `limit` submitted and not finished ──> results, in no order
                        ^ back-pressure: the next task is made when one is done
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from ..spi.call import Call

T = TypeVar("T")
R = TypeVar("R")

# How late a cancelled call or an ageing lease is noticed while all workers are busy.
_TICK_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """How much runs at once.

    Attributes:
        count: windows worked on at the same time, each with its own connection.
        budget: bytes of the volume in memory at a time; fewer windows are worked on where they hold much.
        executor: where they run; None: a pool of threads for each operation. It must be able to share
            memory with the caller.
    """

    count: int = 4
    budget: int = 128 * 1024**2
    executor: Executor | None = None


def run(
    work: Callable[[T, Call], R],
    tasks: Iterable[T],
    done: Callable[[R], None],
    *,
    limit: int,
    workers: Workers,
    call: Call,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Run `work(task, call)` for all tasks, `limit` at a time, and hand each result to `done`.

    `done`, and `tick` about once a second, run in the caller's thread. The first error of any, and the
    end of `call`, cancels the other workers, waits for them and is raised.
    """
    inner = replace(call, cancel=threading.Event())
    pending: set[Future[R]] = set()
    with _pool(workers, limit) as executor:
        try:
            for task in tasks:
                pending.add(executor.submit(work, task, inner))
                while len(pending) >= limit:
                    _drain(pending, done, tick, call)
            while pending:
                _drain(pending, done, tick, call)
        finally:
            inner.cancel.set()
            wait(pending)


def _drain(pending: set[Future[R]], done: Callable[[R], None], tick: Callable[[], None], call: Call) -> None:
    ended, _ = wait(pending, timeout=_TICK_SECONDS, return_when=FIRST_COMPLETED)
    call.check()
    tick()
    for future in ended:
        pending.discard(future)
        done(future.result())


@contextmanager
def _pool(workers: Workers, limit: int) -> Iterator[Executor]:
    if workers.executor is not None:
        yield workers.executor
        return
    with ThreadPoolExecutor(limit, thread_name_prefix="archive") as pool:
        yield pool
