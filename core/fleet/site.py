"""What one process has open of one configuration file: pools and stores by name, and itself as a mover.

    task ── names only ──> worker ── its own file ──> drivers, opened once, for all tasks of the process

Names travel, credentials do not: each machine has its own configuration, with the same names and its own
addresses and secrets.
"""

from __future__ import annotations

import atexit
import threading
from contextlib import suppress
from pathlib import Path

from ..access import Mover
from ..config import Config, load_config
from ..journal import Journal
from ..mover import mover_host, state_directory
from ..pool import Pool, open_pool
from ..spi import StorageError
from ..store import Store, open_store

# As the command line: without reflinks the qcow2 driver copies the whole volume for a snapshot.
_LONGEST = 24 * 3600.0


class Site:
    """Opens each pool and store once, when it is first asked for; safe for threads.

    Args:
        config: the file; None: where `load_config` looks.
    """

    def __init__(self, config: Path | None = None) -> None:
        self.config: Config = load_config(config)
        state = state_directory()
        self.mover = Mover(host=mover_host(state), journal=Journal(state / "journal"))
        self._pools: dict[str, Pool] = {}
        self._stores: dict[str, Store] = {}
        self._lock = threading.Lock()

    def pool(self, name: str) -> Pool:
        """Return the pool, open; what dead processes of this machine left on it is swept first.

        Raises:
            NotFound: the configuration has no such pool.
        """
        backend = self.config.pool(name)
        with self._lock:
            if backend.name not in self._pools:
                pool = open_pool(
                    backend.name, backend.driver, backend.options, timeout=_LONGEST, limits=backend.limits
                )
                self._pools[backend.name] = pool
                self.mover.sweep_pool(pool)  # a worker that was killed has a grant, which keeps a clone
            return self._pools[backend.name]

    def store(self, name: str) -> Store:
        """Return the store, open.

        Raises:
            NotFound: the configuration has no such store.
        """
        backend = self.config.store(name)
        with self._lock:
            if backend.name not in self._stores:
                self._stores[backend.name] = open_store(
                    backend.name, backend.driver, backend.options, limits=backend.limits
                )
            return self._stores[backend.name]

    def close(self) -> None:
        """Close all that was opened; the process may end anyway, so an error is not worth raising."""
        with self._lock:
            closes = [opened.close for opened in self._pools.values()]
            for close in (*closes, *(opened.close for opened in self._stores.values())):
                with suppress(StorageError):
                    close()
            self._pools.clear()
            self._stores.clear()


_sites: dict[Path | None, Site] = {}
_guard = threading.Lock()


def site_of(config: Path | None) -> Site:
    """Return this process's one site for a configuration file; it stays open for later tasks."""
    with _guard:
        if config not in _sites:
            _sites[config] = Site(config)
        return _sites[config]


@atexit.register
def close_sites() -> None:
    """Close what the tasks of this process opened; the next task opens it again."""
    with _guard:
        for site in _sites.values():
            site.close()
        _sites.clear()
