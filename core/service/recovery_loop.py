"""What a server does against what dead processes left: a sync when it starts, and whenever it may help.

    start ──┐
    woken ──┼─> sync ── all rests ───────> after `every` seconds, or when woken
    pause ──┘     └──── something waits ─> 5 s, 10 s, … until it rests

Woken when something connects. A host or a backend that becomes reachable again needs nobody to say so: what
waits for it is tried again. What another machine leaves when it dies is found by a later round.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType

from ..catalog.place import has_default
from ..periodic import Periodic
from ..site import Site
from ..spi import Call, StorageError
from .recovery import open_services
from .sync import SyncReport

_log = logging.getLogger("bollard.sync")

EVERY = 300.0
_FIRST_PAUSE = 5.0
_LONGEST_PAUSE = 60.0
_LONGEST_ROUND = 3600.0  # seconds; what takes longer is cut off, and goes on in the next round
_MOST_TOLD = 5

Round = Callable[[Call], SyncReport]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryState:
    """How far it is.

    Attributes:
        rounds: that are over.
        ended: objects that all rounds brought to rest.
        waiting: objects that the last round could not end; -1 if the catalog could not be read.
        at: end of the last round, seconds since 1970.
    """

    running: bool = False
    rounds: int = 0
    ended: int = 0
    waiting: int = 0
    at: float = 0.0


class Recovery:
    """Syncs in the background as long as it is open; use it in a `with` block.

    Nothing waits for it: neither who listens, nor, within a round, one VM or pool for another.

    Args:
        sync: does a round; `site_round` for a site.
        every: seconds between two rounds when all rests; 0: only at the start and when woken.
        clock: seconds since 1970.
    """

    def __init__(self, sync: Round, *, every: float = EVERY, clock: Callable[[], float] = time.time) -> None:
        self._sync, self._every, self._clock = sync, every, clock
        self._cancel = threading.Event()
        self._state = RecoveryState()
        self._in_vain = 0
        self._told: Sequence[str] = ()
        self._periodic = Periodic("bollard-sync", self._round)

    def __enter__(self) -> Recovery:
        self._periodic.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> bool:
        """Cancel what is under way and stop; False: a backend hangs, and a thread with it. Repeatable."""
        self._cancel.set()
        return self._periodic.close()

    def wake(self) -> None:
        """Sync soon: a host or an orchestrator has connected. From any thread."""
        self._periodic.wake()

    def state(self) -> RecoveryState:
        """Return how far it is."""
        return self._state

    def _round(self) -> float | None:
        """Sync once; return the seconds until the next time."""
        self._state = replace(self._state, running=True)
        call = Call(deadline=time.monotonic() + _LONGEST_ROUND, cancel=self._cancel)
        try:
            report = self._sync(call)
        except StorageError as error:
            report = SyncReport(errors=[error])
        finally:
            self._state = replace(self._state, running=False)
        if self._cancel.is_set():
            return None
        return self._pause(waits=self._tell(report))

    def _pause(self, *, waits: bool) -> float | None:
        self._in_vain = self._in_vain + 1 if waits else 0
        if not waits:
            return self._every or None
        return min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(self._in_vain - 1, 8))

    def _tell(self, report: SyncReport) -> bool:
        """Note what became of a round, and log what is new; tell whether anything waits."""
        ended = [one for one in report.ended if not one.problem]
        problems = [f"{one.kind} {one.id}: {one.problem}" for one in report.problems()]
        problems += [str(error) for error in report.errors]
        self._state = RecoveryState(
            rounds=self._state.rounds + 1,
            ended=self._state.ended + len(ended),
            waiting=-1 if report.errors else len(problems),
            at=self._clock(),
        )
        if ended:
            _log.warning("what dead processes left rests now: %s", _some([f"{e.kind} {e.id}" for e in ended]))
        if problems and problems != self._told:
            _log.warning("cannot be ended now, and is tried again: %s", _some(problems))
        self._told = problems
        return bool(problems)


def site_round(site: Site) -> Round:
    """Return what syncs a site; where there is no catalog, there is nothing to be synced."""

    def sync(call: Call) -> SyncReport:
        if site.config.catalog is None and not has_default():
            return SyncReport()
        with open_services(site) as services:
            return services.sync().run(call)

    return sync


def _some(texts: Sequence[str]) -> str:
    more = len(texts) - _MOST_TOLD
    return "; ".join(texts[:_MOST_TOLD]) + (f"; and {more} more" if more > 0 else "")
