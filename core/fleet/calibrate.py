"""A short self-measurement of a machine and a store: figures for a scenario, in a few seconds.

A cold store, a shared link or a busy machine gives other figures at night; measure when it is alike.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from ..dataplane.zero import is_zero
from ..spi import Body, Call, ImageStoreDriver

_SAMPLE = 16 * 2**20
_CONNECTIONS = 4
_SMALL_PUTS = 8

Clock = Callable[[], float]


def calibrate(store: ImageStoreDriver[Any], call: Call, clock: Clock = time.perf_counter) -> dict[str, Any]:
    """Return `store` and `worker` of a scenario, in bytes per second and seconds.

    It puts about 100 MB under a prefix of its own, and deletes them again.

    Raises:
        StorageError: as the driver says.
    """
    noise = os.urandom(_SAMPLE)
    with _keys(store, call) as key:
        latency = statistics.median(
            _seconds(clock, lambda: _put(store, key(), b"x", call)) for _ in range(_SMALL_PUTS)
        )
        alone = statistics.median(_seconds(clock, lambda: _put(store, key(), noise, call)) for _ in range(2))
        together = _seconds(clock, lambda: _put_together(store, key, noise, call))
    return {
        "store": {
            "latency": round(latency, 6),
            "connection": round(_SAMPLE / max(alone - latency, 1e-6)),
            "bandwidth": round(_CONNECTIONS * _SAMPLE / max(together - latency, 1e-6)),
        },
        "worker": {"cores": os.cpu_count() or 1} | _cpu(noise, clock),
    }


def _cpu(noise: bytes, clock: Clock) -> dict[str, int]:
    """Measure what a window costs on one core: is it zero, its granules' digests, the part's digest."""

    def work() -> None:
        view = memoryview(noise)
        for start in range(0, _SAMPLE, 2**16):
            granule = view[start : start + 2**16]
            is_zero(granule)
            hashlib.sha256(granule).digest()
        hashlib.sha256(noise).digest()

    deflate = _seconds(clock, lambda: zlib.compress(noise, 1))
    return {"hash": round(_SAMPLE / _seconds(clock, work)), "compress": round(_SAMPLE / deflate)}


def _put(store: ImageStoreDriver[Any], key: str, data: bytes, call: Call) -> None:
    store.put(key, Body.of(data), call)


def _put_together(store: ImageStoreDriver[Any], key: Callable[[], str], data: bytes, call: Call) -> None:
    with ThreadPoolExecutor(_CONNECTIONS) as threads:
        for future in [threads.submit(_put, store, key(), data, call) for _ in range(_CONNECTIONS)]:
            future.result()


@contextmanager
def _keys(store: ImageStoreDriver[Any], call: Call) -> Iterator[Callable[[], str]]:
    """Yield what makes keys; in the end nothing is left under them."""
    prefix, made, lock = f"calibration/{uuid.uuid4().hex}", list[str](), threading.Lock()

    def key() -> str:
        with lock:
            made.append(f"{prefix}/{len(made)}")
            return made[-1]

    try:
        yield key
    finally:
        for one in made:
            store.delete(one, call)


def _seconds(clock: Clock, act: Callable[[], object]) -> float:
    began = clock()
    act()
    return max(clock() - began, 1e-9)
