"""Pools and stores, opened as the configuration has them."""

from __future__ import annotations

from .config import Backend
from .events import Observer, ignore
from .pool import Pool, open_pool
from .store import Store, open_store

# A full of a big volume over a slow link takes a night, not more; without reflinks the qcow2 driver copies
# the whole volume for a snapshot.
LONGEST = 24 * 3600.0


def pool_of(backend: Backend, observe: Observer = ignore) -> Pool:
    """Open a pool as the configuration has it; the caller closes it."""
    return open_pool(
        backend.name,
        backend.driver,
        backend.options,
        observe=observe,
        timeout=LONGEST,
        limits=backend.limits,
    )


def store_of(backend: Backend, observe: Observer = ignore) -> Store:
    """Open a store as the configuration has it; the caller closes it."""
    return open_store(backend.name, backend.driver, backend.options, observe=observe, limits=backend.limits)
