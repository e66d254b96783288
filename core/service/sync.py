"""Sync: what is in a transient state is decided by asking the backends, and ends at rest.

    kinds      volumes, templates ── VM snapshots ── volume snapshots ── disk-only reverts
    groups     what belongs to one VM, else to one pool: one after the other, oldest first
    all groups at once: a backend that does not answer delays its own group and no other

After a restart of the orchestrator, when a host connects (`host`), or for one VM (`vm`). It looks at what is
transient only, so its cost does not grow with the catalog. What a living process works on is left to it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Protocol

from ..spi import Call, StorageError

_log = logging.getLogger("bollard.sync")

_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What became of one object; `problem` if it has to be synced again."""

    kind: str
    id: str
    before: str
    after: str
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Something to be ended.

    Attributes:
        group: tasks of one group follow each other, in the order in which they were found.
        what: is under way, for people.
        end: does it; what it returns may tell of several objects.
    """

    kind: str
    id: str
    group: str
    what: str
    end: Callable[[Call], Sequence[Ended]]


class Kind(Protocol):
    """One kind of objects that may have been left."""

    def unfinished(self, *, vm: str, host: str) -> Iterator[Task]:
        """Yield what is under way and nobody living works on, oldest first; nothing is changed."""


@dataclass(slots=True, kw_only=True)
class SyncReport:
    """What a sync found, and what became of it."""

    planned: list[Task] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    errors: list[StorageError] = field(default_factory=list)

    def problems(self) -> list[Ended]:
        """Return what has to be synced again."""
        return [one for one in self.ended if one.problem]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sync:
    """Ends what dead processes have left, of all kinds in this order."""

    kinds: Sequence[Kind]

    def run(self, call: Call, *, vm: str = "", host: str = "", dry_run: bool = False) -> SyncReport:
        """Sync everything, or what belongs to one VM, or to the VMs of one host.

        `call.progress` gets tasks done and of all. An error of a task stands in the report.
        """
        report = SyncReport()
        for kind in self.kinds:
            try:
                report.planned.extend(kind.unfinished(vm=vm, host=host))
            except StorageError as error:
                report.errors.append(error)
        if not dry_run:
            self._end_all(report, call)
        return report

    def _end_all(self, report: SyncReport, call: Call) -> None:
        groups: dict[str, list[Task]] = {}
        for task in report.planned:
            groups.setdefault(task.group, []).append(task)
        done, counting = 0, Lock()

        def end(tasks: Sequence[Task]) -> list[Ended]:
            nonlocal done
            ended: list[Ended] = []
            for task in tasks:
                ended += _end(task, call)
                with counting:
                    done += 1
                    call.progress(done, len(report.planned))
            return ended

        with ThreadPoolExecutor(_AT_ONCE) as threads:
            for ended in threads.map(end, groups.values()):
                report.ended += ended


def _end(task: Task, call: Call) -> Sequence[Ended]:
    try:
        call.check()
        return task.end(call)
    except StorageError as error:
        problem = error.message
    except Exception as error:  # noqa: BLE001 - the edge: a row nobody has foreseen must not keep the others
        _log.exception("%s %s cannot be ended for a bug", task.kind, task.id)
        problem = f"it cannot be ended for a bug, {type(error).__name__}: see the log"
    return [Ended(kind=task.kind, id=task.id, before=task.what, after=task.what, problem=problem)]
