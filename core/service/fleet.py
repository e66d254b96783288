"""Whether this machine is alone or one of a fleet: where its records and its journal are.

without [catalog]   records in a SQLite file of this machine's state, the journal in files beside it
with [catalog]      both in the catalog that it names, so that any machine ends what another has left
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from ..access import Mover
from ..config import Config
from ..journal import Journal
from ..mover import mover_host, state_directory


def open_mover(config: Config) -> tuple[Mover, Callable[[], None]]:
    """Return this machine as what moves data, and what ends that: in order, or it looks dead to the fleet."""
    state = state_directory()
    host = mover_host(state)
    if config.catalog is None:
        return Mover(host=host, journal=Journal(state / "journal")), lambda: None
    from .catalog_place import open_catalog  # a database's library costs 0.3 s of CPU: for a fleet
    from .intents import CatalogJournal

    with ExitStack() as stack:
        catalog = open_catalog(config)
        stack.callback(catalog.close)
        journal = CatalogJournal(catalog, state / "owners")
        stack.callback(journal.close)
        return Mover(host=host, journal=journal), stack.pop_all().close
    raise AssertionError
