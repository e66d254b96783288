"""The site of the tasks of a process: one for each configuration file, open until the process ends.

task ── names only ──> worker ── its own file ──> drivers, opened once, for all tasks of the process
"""

from __future__ import annotations

import atexit
import threading
from pathlib import Path

from ..config import Backend, load_config
from ..pool import Pool
from ..site import Site as _Site


class Site(_Site):
    """A site whose pools are swept when they are opened.

    Args:
        config: the file; None: where `load_config` looks.
    """

    def __init__(self, config: Path | None = None) -> None:
        super().__init__(load_config(config))

    def _open_pool(self, backend: Backend) -> Pool:
        pool = super()._open_pool(backend)
        self.mover().sweep_pool(pool)  # a worker that was killed has a grant, which keeps a clone
        return pool


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
