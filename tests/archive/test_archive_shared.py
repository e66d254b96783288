"""Results that readers share: one computation at a time, kept as room allows, and an error never kept."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import pytest

from bollard.core.archive.shared import Shared
from bollard.core.spi import Unavailable


class ByHand(Executor):
    """An executor whose work ends when the test says so.

    Args:
        told: runs when a result is there, before the callbacks of those who asked for it.
    """

    def __init__(self, told: Callable[[], None] = lambda: None) -> None:
        self.asked: list[tuple[Future[Any], Callable[[], Any]]] = []
        self._told = told

    def submit(self, work: Callable[..., Any], /, *_: Any, **__: Any) -> Future[Any]:
        """Keep the work for go_on."""
        future: Future[Any] = Future()
        future.add_done_callback(lambda _: self._told())
        self.asked.append((future, work))
        return future

    def go_on(self) -> None:
        """Do the oldest work."""
        future, work = self.asked.pop(0)
        try:
            future.set_result(work())
        except Unavailable as error:
            future.set_exception(error)


def refuse() -> int:
    """Fail, as a store that restarts."""
    raise Unavailable("the store restarts")


def test_who_asks_while_it_runs_waits_for_the_same():
    """One key is computed once, for those who ask while it runs and for those who ask later."""
    executor = ByHand()
    shared: Shared[str, int] = Shared(executor, 10)
    first, second = shared.get("a", lambda: 1), shared.get("a", lambda: 2)
    executor.go_on()
    assert (first.result(), second.result(), shared.get("a", lambda: 3).result()) == (1, 1, 1)
    assert not executor.asked


def test_the_oldest_goes_when_room_is_short():
    """What was used least lately is computed again; what was used since is not."""
    executor = ByHand()
    shared: Shared[str, int] = Shared(executor, 2)
    for key in "abac":
        shared.get(key, lambda: 0)
        if executor.asked:
            executor.go_on()
    shared.get("a", lambda: 0)
    assert not executor.asked
    shared.get("b", lambda: 0)
    assert len(executor.asked) == 1


def test_an_error_is_not_kept_for_the_instant_before_it_is_forgotten():
    """A repeat that comes between the error and its end in the cache asks anew, and its result is kept."""
    repeats: list[Future[int]] = []
    executor = ByHand(lambda: repeats.append(shared.get("a", lambda: 2)) if not repeats else None)
    shared: Shared[str, int] = Shared(executor, 10)
    failed = shared.get("a", refuse)
    executor.go_on()
    with pytest.raises(Unavailable):
        failed.result()
    assert shared.get("a", lambda: 3) is repeats[0]
    executor.go_on()
    assert shared.get("a", lambda: 3).result() == 2
