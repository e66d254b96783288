"""Threads, open files and child processes of any process, read from /proc: nobody is asked to be honest."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

THREADS, FDS, CHILDREN = "leak.threads", "leak.fds", "leak.child_processes"

_PROC = Path("/proc")
_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)


@dataclass(frozen=True, slots=True)
class Resources:
    """What a process holds, each with words to find it by."""

    threads: Mapping[int, str]
    fds: Mapping[tuple[int, str], str]
    children: Mapping[int, str]

    @classmethod
    def of(cls, pid: int, *, names: Mapping[int, str] | None = None, but: Collection[int] = ()) -> Resources:
        """Look.

        Args:
            pid: of the process; one that is gone holds nothing.
            names: what Python calls its threads, by native id.
            but: native ids of threads that do not count.
        """
        named = names or {}
        return cls(
            {tid: f"thread {named.get(tid, tid)!r}" for tid in _threads(pid) if tid not in but},
            {(fd, target): f"fd {fd} -> {target}" for fd, target in _open_files(pid)},
            {p.pid: f"process {p.pid} {p.name!r}" for p in processes() if p.parent == pid},
        )

    def since(self, before: Resources) -> dict[tuple[str, object], str]:
        """Return what was not there `before`, by leak and identity."""
        return {
            (leak, key): words
            for leak, now, then in (
                (THREADS, self.threads, before.threads),
                (FDS, self.fds, before.fds),
                (CHILDREN, self.children, before.children),
            )
            for key, words in now.items()
            if key not in then
        }


class Process(NamedTuple):
    """One process; pid and start together are never used twice."""

    pid: int
    start: int
    name: str
    parent: int
    session: int


def processes(session: int | None = None) -> Iterator[Process]:
    """Yield every process that can be seen, zombies too: whoever starts a process must wait for it.

    Args:
        session: only those of this one; a suite that kills hosts by the hundred asks for them each time.
    """
    for entry in os.listdir(_PROC):  # noqa: PTH208 - a Path for each of the machine's processes is slow
        if not entry.isdecimal():
            continue
        with suppress(*_GONE):
            if session is None or os.getsid(int(entry)) == session:
                yield _process(entry)


def _process(entry: str) -> Process:
    # pid (name) state ppid pgrp session …   and the name may hold spaces and brackets
    fd = os.open(f"/proc/{entry}/stat", os.O_RDONLY | os.O_CLOEXEC)  # a file object costs more than the rest
    try:
        head, _, tail = os.read(fd, 4096).decode(errors="replace").rpartition(")")
    finally:
        os.close(fd)
    pid, _, name = head.partition(" (")
    fields = tail.split()
    return Process(int(pid), int(fields[19]), name, int(fields[1]), int(fields[3]))


def _threads(pid: int) -> list[int]:
    with suppress(*_GONE):
        return [int(task.name) for task in (_PROC / str(pid) / "task").iterdir()]
    return []


def _open_files(pid: int) -> list[tuple[int, str]]:
    found = []
    with suppress(*_GONE):
        for link in (_PROC / str(pid) / "fd").iterdir():
            with suppress(*_GONE):  # the descriptor of this very listing, if it is our own
                found.append((int(link.name), str(link.readlink())))
    return found
