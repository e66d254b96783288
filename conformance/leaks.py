"""The leak audit: what a run left behind is a result of its own, told with the checks that caused it.

    after each check   everything in the ledger is removed and looked for; the pool's list is read
    at the end         threads, open files and child processes, after the driver was closed

Never by global counts: others may use the backend meanwhile. In the suite's own process a connection
pool may grow during a check and live until `close`; so what appears is noted with the check, and only
what the close did not end is a leak.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from ..core.pool import Pool
from ..core.spi import Snapshots, StorageError
from .clean import Place, exists, remove
from .hosting.launch import close_templates
from .hosting.process import DriverHost
from .hosting.resources import CHILDREN, FDS, THREADS, Resources
from .ledger import Intent, Kind
from .model import Check, Level, Outcome, Result
from .recording import Recorder

# A closed connection's thread or process may need a moment to end.
GRACE = 2.0
_SHOWN = 5
_CLOSING = "opening or closing the driver"

_VOLUMES, _SNAPSHOTS, _GRANTS = "leak.volumes", "leak.snapshots", "leak.grants"
_ON_HOSTS = "leak.host_objects"
_CLAIMS = "outcome.not_applied_is_true"
CANARY = "sec.secret_canary"
_KEYS, _FILES = "leak.store_keys", "leak.temp_files"

_LEAK_OF: Mapping[Kind, str] = {
    Kind.VOLUME: _VOLUMES,
    Kind.ADOPTED: _VOLUMES,
    Kind.RELEASED: _VOLUMES,
    Kind.TEMPLATE: _VOLUMES,
    Kind.SNAPSHOT: _SNAPSHOTS,
    Kind.VM_SNAPSHOT: _SNAPSHOTS,
    Kind.GRANT: _GRANTS,
    Kind.PREFIX: _KEYS,
    Kind.KEY: _KEYS,
    Kind.INTRODUCED: _ON_HOSTS,
    Kind.ATTACHED: _ON_HOSTS,
    Kind.HOST_SNAPSHOT: _ON_HOSTS,
    Kind.FROZEN: _ON_HOSTS,
    Kind.POWER: _ON_HOSTS,
    Kind.MOVED: _ON_HOSTS,
    Kind.BACKUP: _ON_HOSTS,
    Kind.FENCED: _ON_HOSTS,
    Kind.OBJECTS: _ON_HOSTS,
}


def _run_check(leak: str, rule: str, what: str, level: Level = Level.MUST) -> Check:
    return Check(id=leak, level=level, rule=rule, kinds=(), what=what)


# What is true of a conformant driver over a whole run; no function of a check, the audit is.
RUN_CHECKS: tuple[Check, ...] = (
    _run_check(_VOLUMES, "any.gone", "Every volume, clone and template of the run is gone after its delete."),
    _run_check(_SNAPSHOTS, "any.gone", "Every snapshot of the run is gone after its delete."),
    _run_check(_GRANTS, "acl.revoke-proven", "No host of the run has access after its grant was revoked."),
    _run_check(_KEYS, "any.gone", "No key of the run is left on the store after its delete."),
    _run_check(
        _ON_HOSTS,
        "forget.no-trace",
        "Nothing of the run is left on a host, each VM is as it was, and a fenced host is on.",
    ),
    _run_check(_CLAIMS, "any.taxonomy", "What an error says was not applied is not on the backend."),
    _run_check(CANARY, "any.secrets", "No secret shows in an error, a log, a file, a process list."),
    _run_check(THREADS, "drv.close-all", "After close no thread that the driver started is left."),
    _run_check(FDS, "drv.close-all", "After close no file or socket that the driver opened is left."),
    _run_check(
        _FILES,
        "drv.close-all",
        "After close no file is left in the driver's TMPDIR and HOME.",
        Level.SHOULD,  # a library may keep a cache there; what fills a disk over years is told
    ),
    _run_check(CHILDREN, "drv.close-all", "After close no process that the driver started is left."),
)
_CHECK_OF = {found.id: found for found in RUN_CHECKS}


class Audit:
    """The leaks of one run. Begin it before the driver is opened, `end` it after it was closed."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._ledger = recorder.ledger
        self._before = _held()
        self._first_seen: dict[tuple[str, object], str] = {}
        self._leaked: set[Intent] = set()
        self._listed: set[str] = set()
        self._found: dict[str, list[str]] = {leak: [] for leak in (THREADS, FDS, CHILDREN)}

    def after_check(self, check: str, place: Place) -> None:
        """Remove what a check made, and note what is left and what is new."""
        self._watch(place)
        self._look_at_claims(check, place)
        for intent in self._ledger.open_intents():
            if intent not in self._leaked:
                self._remove(check, intent, place)
        if place.pool is not None:
            self._compare(check, place.pool)
        for key in _held().since(self._before):
            self._first_seen.setdefault(key, check)

    def found_on_host(self, check: str, words: str) -> None:
        """Note what the lab of a hypervisor could not undo."""
        self._add(_ON_HOSTS, check, words)

    def end(self, clock: Callable[[], float] = time.monotonic) -> list[Outcome]:
        """Return one outcome for each kind of leak that was looked for."""
        close_templates()  # ours; no driver was ever made in one
        gc.collect()  # an object that only a cycle keeps is no leak
        deadline = clock() + GRACE
        while (left := _held().since(self._before)) and clock() < deadline:
            threading.Event().wait(0.05)
        for (leak, identity), words in left.items():
            self._add(leak, self._first_seen.get((leak, identity), _CLOSING), words)
        for check, host in self._recorder.hosts:
            self._look_for_files(check or _CLOSING, host)
            for (leak, _), words in host.left.items():
                self._add(leak, check or _CLOSING, f"{words} of the driver's process")
        return [run_outcome(leak, found) for leak, found in sorted(self._found.items())]

    def _look_at_claims(self, check: str, place: Place) -> None:
        """Ask the backend for what an error said is not there (a retry elsewhere would leak it)."""
        for intent in self._recorder.open_claims():
            with suppress(StorageError):  # who cannot be asked cannot be accused
                if exists(intent, place):
                    self._add(_CLAIMS, check, f"{intent} exists, though its create failed with 'not_applied'")
        self._recorder.claims.clear()

    def _look_for_files(self, check: str, host: DriverHost) -> None:
        """Look at what a driver that was closed in order has left in its temporary directory."""
        self._found.setdefault(_FILES, [])
        if host.ended() == "exit code 0":
            root = host.files.temp
            for path in sorted(p for p in root.rglob("*") if not p.is_dir())[:_SHOWN]:
                self._add(_FILES, check, f"file {path.relative_to(root)}")

    def _watch(self, place: Place) -> None:
        """Report on the kinds of object that this driver can make, also if none leaks."""
        if place.hypervisor is not None or place.fence is not None:
            self._found.setdefault(_ON_HOSTS, [])
        if place.stores:
            self._found.setdefault(_KEYS, [])
        if place.pool is not None:
            self._found.setdefault(_VOLUMES, [])
            self._found.setdefault(_CLAIMS, [])
            if place.pool.managed:
                self._found.setdefault(_GRANTS, [])
            if isinstance(place.pool.driver, Snapshots):
                self._found.setdefault(_SNAPSHOTS, [])

    def _remove(self, check: str, intent: Intent, place: Place) -> None:
        problem = remove(intent, place)
        if not problem:
            self._ledger.done(intent)
            return
        self._leaked.add(intent)
        self._add(_LEAK_OF[intent.kind], check, problem)

    def _compare(self, check: str, pool: Pool) -> None:
        """Look in the pool's list for volumes of this run: all of them were removed."""
        leaked = {intent.id for intent in self._leaked} | self._listed
        try:
            listed = {v.id for v in pool.volumes.list()}
        except StorageError as error:
            self._add(_VOLUMES, check, f"the pool cannot be listed: {type(error).__name__}: {error}")
            return
        ours = {v for v in listed if v in self._ledger.known or v.startswith(self._ledger.prefix)}
        for volume in sorted(ours - leaked):
            self._listed.add(volume)
            self._add(_VOLUMES, check, f"volume {volume} is listed, though nobody finds it by its id")

    def _add(self, leak: str, check: str, words: str) -> None:
        self._found.setdefault(leak, []).append(f"{check}: {words}")


def run_outcome(leak: str, found: list[str]) -> Outcome:
    """Return the outcome of a check of the whole run, from the sentences that accuse."""
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    message = "; ".join(found[:_SHOWN]) + more
    return Outcome(
        check=_CHECK_OF[leak], result=Result.FAIL if found else Result.PASS, seconds=0.0, message=message
    )


def _held() -> Resources:
    """Return what the suite's own process holds."""
    return Resources.of(os.getpid(), names={t.native_id or 0: t.name for t in threading.enumerate()})
