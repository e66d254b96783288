"""The sync that a server does by itself: its options, and its thread."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from ..core.service.recovery_loop import Recovery, site_round
from ..core.site import Site

_log = logging.getLogger("bollard.sync")

SyncEvery = Annotated[
    float,
    typer.Option(min=0, help="Seconds between two syncs; 0: only at the start and when something connects."),
]


@contextmanager
def recovering(site: Site, *, wanted: bool, every: float) -> Iterator[Recovery | None]:
    """Yield what syncs a site in the background; None if it is not wanted."""
    if not wanted:
        yield None
        return
    with Recovery(site_round(site), every=every) as recovery:
        yield recovery
        if not recovery.close():
            _end_now()


def _end_now() -> None:
    """End the process although a thread of it hangs in a backend, for an hour maybe.

    All orders have ended; what the sync has in hand is found by the next one, as after a kill -9.
    """
    _log.warning("a backend hangs: the sync is broken off")
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
