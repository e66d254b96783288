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
from dataclasses import dataclass
from pathlib import Path

from ..core.pool import Pool
from ..core.spi import Snapshots, StorageError
from .clean import Place, remove
from .ledger import Intent, Kind, Ledger
from .model import Check, Level, Outcome, Result

# A closed connection's thread or process may need a moment to end.
GRACE = 2.0
_SHOWN = 5
_CLOSING = "opening or closing the driver"

_VOLUMES, _SNAPSHOTS, _GRANTS = "leak.volumes", "leak.snapshots", "leak.grants"
_KEYS, _THREADS, _FDS, _CHILDREN = "leak.store_keys", "leak.threads", "leak.fds", "leak.child_processes"

_LEAK_OF: Mapping[Kind, str] = {
    Kind.VOLUME: _VOLUMES,
    Kind.ADOPTED: _VOLUMES,
    Kind.TEMPLATE: _VOLUMES,
    Kind.SNAPSHOT: _SNAPSHOTS,
    Kind.VM_SNAPSHOT: _SNAPSHOTS,
    Kind.GRANT: _GRANTS,
    Kind.PREFIX: _KEYS,
    Kind.KEY: _KEYS,
}
# Leak -> the sentence of the contract, and what is true of a conformant driver.
_RULES: Mapping[str, tuple[str, str]] = {
    _VOLUMES: ("any.gone", "Every volume, clone and template of the run is gone after its delete."),
    _SNAPSHOTS: ("any.gone", "Every snapshot of the run is gone after its delete."),
    _GRANTS: ("acl.revoke-proven", "No host of the run has access after its grant was revoked."),
    _KEYS: ("any.gone", "No key of the run is left on the store after its delete."),
    _THREADS: ("drv.close-all", "After close no thread that the driver started is left."),
    _FDS: ("drv.close-all", "After close no file or socket that the driver opened is left."),
    _CHILDREN: ("drv.close-all", "After close no process that the driver started is left."),
}


@dataclass(frozen=True, slots=True)
class Resources:
    """Threads, open files and child processes of this process, each with words to find it by."""

    threads: Mapping[int, str]
    fds: Mapping[tuple[int, str], str]
    children: Mapping[int, str]

    @classmethod
    def now(cls) -> Resources:
        """Look."""
        return cls(
            {t.native_id or 0: f"thread {t.name!r}" for t in threading.enumerate()},
            {(fd, target): f"fd {fd} -> {target}" for fd, target in _open_files()},
            {pid: f"process {pid} {name!r}" for pid, name in _children()},
        )

    def since(self, before: Resources) -> dict[tuple[str, object], str]:
        """Return what was not there `before`, by leak and identity."""
        return {
            (leak, key): words
            for leak, now, then in (
                (_THREADS, self.threads, before.threads),
                (_FDS, self.fds, before.fds),
                (_CHILDREN, self.children, before.children),
            )
            for key, words in now.items()
            if key not in then
        }


class Audit:
    """The leaks of one run. Begin it before the driver is opened, `end` it after it was closed."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._before = Resources.now()
        self._first_seen: dict[tuple[str, object], str] = {}
        self._leaked: set[Intent] = set()
        self._listed: set[str] = set()
        self._found: dict[str, list[str]] = {leak: [] for leak in (_THREADS, _FDS, _CHILDREN)}

    def after_check(self, check: str, place: Place) -> None:
        """Remove what a check made, and note what is left and what is new."""
        self._watch(place)
        for intent in self._ledger.open_intents():
            if intent not in self._leaked:
                self._remove(check, intent, place)
        if place.pool is not None:
            self._compare(check, place.pool)
        for key in Resources.now().since(self._before):
            self._first_seen.setdefault(key, check)

    def end(self, clock: Callable[[], float] = time.monotonic) -> list[Outcome]:
        """Return one outcome for each kind of leak that was looked for."""
        gc.collect()  # an object that only a cycle keeps is no leak
        deadline = clock() + GRACE
        while (left := Resources.now().since(self._before)) and clock() < deadline:
            threading.Event().wait(0.05)
        for (leak, identity), words in left.items():
            self._add(leak, self._first_seen.get((leak, identity), _CLOSING), words)
        return [_outcome(leak, found) for leak, found in sorted(self._found.items())]

    def _watch(self, place: Place) -> None:
        """Report on the kinds of object that this driver can make, also if none leaks."""
        if place.stores:
            self._found.setdefault(_KEYS, [])
        if place.pool is not None:
            self._found.setdefault(_VOLUMES, [])
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


def _outcome(leak: str, found: list[str]) -> Outcome:
    rule, what = _RULES[leak]
    check = Check(id=leak, level=Level.MUST, rule=rule, kinds=(), what=what)
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    message = "; ".join(found[:_SHOWN]) + more
    return Outcome(check=check, result=Result.FAIL if found else Result.PASS, seconds=0.0, message=message)


def _open_files() -> list[tuple[int, str]]:
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the descriptor of this very listing
            found.append((int(link.name), str(link.readlink())))
    return found


def _children() -> list[tuple[int, str]]:
    """Return this process's children, zombies too: whoever starts a process must wait for it."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            # pid (name) state ppid …   and the name may hold spaces and brackets
            head, _, tail = stat.read_text().rpartition(")")
            if int(tail.split()[1]) == os.getpid():
                found.append((int(head.split(" ", 1)[0]), head.partition("(")[2]))
    return found
