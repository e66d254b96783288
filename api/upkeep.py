"""Jobs of the kinds "sync" and "sweep": the same as `bollard sync` and `bollard sweep`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from ..core.backends import pool_of, store_of
from ..core.jobs import Run
from ..core.mover import state_directory
from ..core.service.leftovers import Report
from ..core.service.leftovers import Run as Manner
from ..core.service.recovery import open_services
from ..core.service.seen import Seen
from ..core.service.sweep import Sweep
from ..core.service.sweep_hosts import HostPlace
from ..core.service.sweep_increments import increment_places
from ..core.service.sweep_state import StatePlace
from ..core.service.sync import SyncReport
from ..core.site import Site

SYNC, SWEEP = "sync", "sweep"
_OLDER_THAN = 24 * 3600.0
_MOST_ROWS = 1000


class SyncHandler:
    """Ends what dead processes have left under way."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def __call__(self, run: Run) -> Mapping[str, Any]:
        """Return what was found and what became of it; what has a problem has to be synced again."""
        asked = run.job.arguments
        dry_run = bool(asked.get("dry_run", False))
        with open_services(self._site) as services:
            report = services.sync().run(
                run.call, vm=asked.get("vm", ""), host=asked.get("host", ""), dry_run=dry_run
            )
        return _synced(report, dry_run=dry_run)


class SweepHandler:
    """Sweeps pools, stores and hosts of a site's configuration, opened for the sweep alone."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def __call__(self, run: Run) -> Mapping[str, Any]:
        """Return what was found, and what could not be looked at: one backend's failure is not all's."""
        config = self._site.config
        sweep = Sweep(
            pools={name: partial(pool_of, backend) for name, backend in config.pools.items()},
            stores={name: partial(store_of, backend) for name, backend in config.stores.items()},
            hosts={name: partial(HostPlace.of, self._site, name) for name in config.hypervisors},
            places=[StatePlace(directory=state_directory()), *increment_places(self._site)],
            mover=self._site.mover(),
            seen=Seen(state_directory() / "swept"),
        )
        dry_run = bool(run.job.arguments.get("dry_run", True))
        return _told(
            sweep.run(Manner(call=run.call, dry_run=dry_run, older_than=_OLDER_THAN)), dry_run=dry_run
        )


def _told(report: Report, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "found": len(report.swept),
        "leftovers": [
            asdict(one.leftover) | {"end": one.end.value, "reason": one.reason}
            for one in report.swept[:_MOST_ROWS]
        ],
        "errors": [failure.error.to_json() | {"place": failure.place} for failure in report.failures],
    }


def _synced(report: SyncReport, *, dry_run: bool) -> dict[str, Any]:
    planned = [{"kind": one.kind, "id": one.id, "what": one.what} for one in report.planned[:_MOST_ROWS]]
    return {
        "dry_run": dry_run,
        "found": planned,
        "ended": [asdict(one) for one in report.ended[:_MOST_ROWS]],
        "errors": [error.to_json() for error in report.errors],
    }
