"""Killing the suite, a driver host or the simulator at a seeded moment, and cleaning up as a vendor does.

    run ──> ledger has n lines ── some ms ──> SIGKILL ──> (the suite ends | SIGKILL) ──> clean … ──> compare

The moment is counted in lines of the ledger and not in seconds: a slow machine is killed at the same place.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from bollard.cli.conformance import app
from bollard.conformance.hosting.resources import processes
from kill_backends import Backend, Inventory

_TEMPLATE, _SERVER = b"bollard.conformance.hosting.template", b"bollard.conformance.hosting.server"
_PATIENCE = 90.0  # seconds for a suite to end, and for `clean` to say that all is gone
_VANISH = 10.0  # seconds for processes of a dead run to end


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """What is killed and when.

    Attributes:
        victim: "suite", "host" or "simulator".
        select: the checks that run.
        lines: of the ledger, after which the moment comes.
        delay: seconds after that.
        then: seconds after which the suite is killed too; None: it ends by itself.
        elsewhere: clean up with a copy of the ledger, as from another machine.
    """

    seed: str
    victim: str
    select: tuple[str, ...]
    lines: int
    delay: float
    then: float | None
    elsewhere: bool

    @classmethod
    def of(cls, seed: str, victim: str, checks: Sequence[str], *, most: int) -> Kill:
        """Choose at random; `most` lines are written by any three of the checks."""
        chosen = random.Random(seed)  # noqa: S311 - a seed
        return cls(
            seed=seed,
            victim=victim,
            select=tuple(chosen.sample(checks, 3)),
            lines=chosen.randint(2, most),
            delay=chosen.choice([0.0, chosen.uniform(0, 0.1)]),
            then=chosen.choice([None, chosen.uniform(0, 0.5)]),
            elsewhere=chosen.random() < 0.3,
        )


@dataclass(slots=True, kw_only=True)
class Killed:
    """What became of it.

    Attributes:
        removed: what `clean` had to remove, in words.
        problems: everything that is not as it was before the run.
    """

    removed: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def kill_and_clean(backend: Backend, home: Path, kill: Kill) -> Killed:
    """Run the suite, kill, clean up, and compare; `home` is an empty directory for this run alone."""
    before, ledger = backend.inventory(), home / "ledger"
    suite = _start(backend, home, kill)
    try:
        _strike(backend, ledger, suite, kill)
    finally:
        suite.kill()
        suite.wait()
    killed = Killed()
    _clean(backend, home, kill, killed)
    killed.problems += _differences(before, backend.inventory())
    killed.problems += _left_behind(home)
    return killed


def _start(backend: Backend, home: Path, kill: Kill) -> subprocess.Popen[bytes]:
    (home / "tmp").mkdir()
    command = [sys.executable, "-m", "bollard", "conformance", "run", "--config", str(backend.config)]
    command += ["--ledger", str(home / "ledger"), "--select", ",".join(kill.select), "--seed", "1"]
    with (home / "said").open("wb") as said:
        return subprocess.Popen(
            command, stdout=said, stderr=said, env={**os.environ, "TMPDIR": str(home / "tmp")}
        )


def _strike(backend: Backend, ledger: Path, suite: subprocess.Popen[bytes], kill: Kill) -> None:
    """Kill the victim at its moment, and see the suite's end."""
    _until(lambda: _lines(ledger) >= kill.lines or suite.poll() is not None, _PATIENCE)
    _until(lambda: suite.poll() is not None, kill.delay)
    if kill.victim == "suite":
        assert suite.poll() is None, f"{kill}: the suite ended before it could be killed: {_said(ledger)}"
        suite.kill()
        return
    if kill.victim == "simulator":
        assert backend.simulator is not None
        backend.simulator.kill()
        backend.simulator.restart()
    else:
        _kill_host(suite, kill)
    if not _until(lambda: suite.poll() is not None, _PATIENCE if kill.then is None else kill.then):
        assert kill.then is not None, f"{kill}: the suite hangs: {_said(ledger)}"


def _kill_host(suite: subprocess.Popen[bytes], kill: Kill) -> None:
    """SIGKILL one of the suite's driver hosts; there may be none for a moment."""
    chosen = random.Random(kill.seed)  # noqa: S311 - a seed
    found: list[int] = []

    def look() -> bool:
        # Forked from a template, or spawned: where coverage is measured all are.
        own = {pid: _read(pid, "cmdline") for pid in _children({suite.pid})}
        found[:] = _children({pid for pid, line in own.items() if _TEMPLATE in line})
        found.extend(pid for pid, line in own.items() if _SERVER in line)
        return bool(found) or suite.poll() is not None

    assert _until(look, _PATIENCE), f"{kill}: the suite has no driver host"
    assert found, f"{kill}: the suite ended before its driver host could be killed"
    with suppress(ProcessLookupError):
        os.kill(chosen.choice(found), signal.SIGKILL)


def _children(parents: set[int]) -> list[int]:
    return [p.pid for p in processes() if p.parent in parents]


def _clean(backend: Backend, home: Path, kill: Kill, killed: Killed) -> None:
    """Call `clean` until it says that all is gone."""
    ledger = home / "ledger"
    for path in sorted(ledger.glob("*.jsonl")):
        if kill.elsewhere:
            copy = home / "elsewhere"
            copy.mkdir(exist_ok=True)
            shutil.copy(path, copy)
            _clean_run(backend, copy, path.stem, killed)
        _clean_run(backend, ledger, path.stem, killed)
        if kill.elsewhere:
            killed.problems += [f"{left} is left elsewhere" for left in copy.iterdir()]
            shutil.rmtree(copy)
    runs = _bollard("runs", "--json", "--ledger", ledger)
    killed.problems += [f"`runs` lists {one}" for one in runs[1]]


def _clean_run(backend: Backend, ledger: Path, run: str, killed: Killed) -> None:
    deadline = time.monotonic() + _PATIENCE
    arguments = ("clean", "--json", "--run", run, "--ledger", ledger, "--config", backend.config)
    while True:
        code, removals = _bollard(*arguments)
        killed.removed += [f"{one['kind']} {one['id']}" for one in removals if not one["problem"]]
        if code == 0:
            return
        if time.monotonic() >= deadline:
            killed.problems += [one["problem"] for one in removals] or [f"clean ends with {code}"]
            return


def _bollard(*arguments: str | Path) -> tuple[int, list[Any]]:
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    return done.exit_code, json.loads(done.stdout) if done.stdout.startswith("[") else []


def _differences(before: Inventory, after: Inventory) -> list[str]:
    """Say what two inventories do not have in common."""
    found = [f"{name} is GONE: {before[name]}" for name in before.keys() - after.keys()]
    found += [f"{name} is left: {after[name]}" for name in after.keys() - before.keys()]
    both = before.keys() & after.keys()
    return found + [f"{n} was {before[n]}, is {after[n]}" for n in both if before[n] != after[n]]


def _left_behind(home: Path) -> list[str]:
    """Say what the run's machine still has of it: processes, ledgers and their work directories."""
    _until(lambda: not _processes_of(home), _VANISH)
    found = [f"process {pid} is left: {_read(pid, 'cmdline')!r}" for pid in _processes_of(home)]
    return found + [f"{path} is left" for path in (home / "ledger").glob("*")]


def _processes_of(home: Path) -> list[int]:
    """Return the processes that were told a path below `home`, by an argument or by TMPDIR."""
    mark = f"{home}/".encode()
    pids = [p.pid for p in processes() if p.pid != os.getpid()]
    return [pid for pid in pids if mark in _read(pid, "cmdline") + _read(pid, "environ")]


def _read(pid: int, name: str) -> bytes:
    with suppress(FileNotFoundError, ProcessLookupError, PermissionError):  # it has ended, or is not ours
        return Path(f"/proc/{pid}/{name}").read_bytes()
    return b""


def _lines(ledger: Path) -> int:
    with suppress(FileNotFoundError):  # it goes when the run has removed everything
        return sum(path.read_bytes().count(b"\n") for path in ledger.glob("*.jsonl"))
    return 0


def _said(ledger: Path) -> str:
    return (ledger.parent / "said").read_text(errors="replace")[-2000:]


def _until(true: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not (found := true()) and time.monotonic() < deadline:
        threading.Event().wait(0.002)
    return found
