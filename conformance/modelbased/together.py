"""Calls at the same time: threads that begin together and are always awaited, with a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Generic, TypeVar

from ...core.invoke import backoff, worth_repeating
from ...core.spi import Call, Internal, PrimaryDriver, StorageError
from ..lab import ContractBroken, Lab, must

T = TypeVar("T")

# Callers of a driver that takes one call at a time need an instance each, and that is a process each.
_MOST_INSTANCES = 4
_SLOWEST_GROWTH = 4  # attempts after which the wait before the next one grows no more


class _Runner(threading.Thread, Generic[T]):
    """One thread; a daemon, so that a call which never returns does not keep the suite alive."""

    def __init__(self, job: Callable[[], T], start: threading.Barrier) -> None:
        super().__init__(daemon=True)
        self._job, self._start = job, start
        self.result: list[T] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        """Run the job and keep what comes of it."""
        try:
            self._start.wait(30)
            self.result.append(self._job())
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that waits
            self.error = error


def together(jobs: Sequence[Callable[[], T]], seconds: float = 600.0) -> list[T]:
    """Run jobs in threads that begin at the same moment, and return their results in order.

    Args:
        jobs: one for each thread.
        seconds: within which all must have ended; by default so many that a job of several calls, each of
            which takes its whole deadline, is still waited for: slow is not wrong.

    Raises:
        ContractBroken: a call has not returned by then.
    """
    start, until = threading.Barrier(len(jobs)), time.monotonic() + seconds
    runners = [_Runner(job, start) for job in jobs]
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join(max(0.0, until - time.monotonic()))
    hung = sum(runner.is_alive() for runner in runners)
    must(not hung, f"{hung} of {len(jobs)} concurrent calls did not return within {seconds:.0f} seconds")
    for runner in runners:
        if runner.error is not None:
            raise runner.error
    return [runner.result[0] for runner in runners]


def asking(act: Callable[[], T]) -> T | StorageError:
    """Return what a driver's method returns, or the error that it raises.

    Raises:
        ContractBroken: it raised something outside of the taxonomy, or says itself that it has a bug.
    """
    try:
        return act()
    except Internal as error:
        raise ContractBroken(
            f"the driver lost its way when two calls met: {type(error).__name__}: {error}"
        ) from error
    except StorageError as error:
        return error
    except Exception as error:  # the edge to foreign code: what escapes it is judged
        raise ContractBroken(f"{type(error).__name__} escaped the driver: {error}") from error


def patiently(act: Callable[[Call], T], seconds: float = 60.0) -> T | StorageError:
    """Repeat a call as an orchestrator would while the driver says that it is worth it."""
    call, attempt = Call.within(seconds), 0
    while True:
        attempt += 1
        answer = asking(lambda: act(call))
        if not isinstance(answer, StorageError) or not worth_repeating(answer):
            return answer
        wait = backoff(min(attempt, _SLOWEST_GROWTH), answer)
        if call.clock() + wait >= (call.deadline or 0.0):
            return answer
        call.cancel.wait(wait)


@contextmanager
def doors(lab: Lab, callers: int) -> Iterator[list[PrimaryDriver[Any]]]:
    """Yield the driver instance of each caller.

    Two instances share the callers; where the driver takes one call at a time (`Traits.concurrent_calls`),
    each caller has its own, and there are fewer callers. Not through core's clients: their locks let one
    call at a time reach an object.
    """
    with ExitStack() as stack:
        safe = lab.pool.traits.concurrent_calls
        instances = 2 if safe else min(callers, _MOST_INSTANCES)
        found = [lab.pool.driver]
        found += [stack.enter_context(lab.second(fork=True)).driver for _ in range(instances - 1)]
        yield [found[n % instances] for n in range(callers if safe else instances)]
