"""Waiting for other processes."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def until(found: Callable[[], T], seconds: float, what: str) -> T:
    """Return the first true value of `found`; fail after `seconds`."""
    end, pause = time.monotonic() + seconds, 0.005
    while not (value := found()):
        if time.monotonic() > end:
            raise TimeoutError(f"after {seconds:g} s still waiting for {what}")
        time.sleep(pause)
        pause = min(2 * pause, 0.1)
    return value


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock that is this file; the kernel frees it when the holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
