"""Running a tool: its whole process tree is watched, what it says is kept for the case that it fails."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar


class Missing(Exception):
    """A tool is not installed, or cannot do the job; the text says which."""


class TooSlow(Exception):
    """A tool was stopped after its time."""


class Patience:
    """Until when a contestant may work at one step, on the monotonic clock; it is one at a time."""

    until: ClassVar[float] = math.inf

    @classmethod
    def left(cls) -> float:
        """Return the seconds left.

        Raises:
            TooSlow: there are none.
        """
        left = cls.until - time.monotonic()
        if left <= 0:
            raise TooSlow("it was stopped")
        return left


class Meter:
    """The peak of the memory of process trees, in MiB, looked at 20 times a second.

    Shared pages are counted by their share (PSS), so that processes which were forked do not count twice.
    """

    def __init__(self) -> None:
        self.peak = 0.0

    def watch(self, pid: int, over: threading.Event) -> None:
        """Look until it is over."""
        while not over.wait(0.05):
            self.peak = max(self.peak, sum(map(_mib, _tree(pid))))


def _tree(pid: int) -> list[int]:
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children += [int(child) for child in task.read_text().split()]
        except OSError:  # it ended meanwhile
            continue
    return [pid, *(one for child in children for one in _tree(child))]


def _mib(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:  # it ended meanwhile, or is not ours
        return 0.0
    found = re.search(r"^Pss: +(\d+)", text, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def run(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    meter: Meter | None = None,
    stdout: Path | None = None,
) -> str:
    """Run a command to its end and return what it printed.

    Raises:
        Missing: there is no such tool.
        TooSlow: nobody has the patience.
        RuntimeError: it failed.
    """
    name = str(command[0])
    if shutil.which(name) is None:
        raise Missing(f"{name} is not installed")
    over = threading.Event()
    with stdout.open("wb") if stdout else open(os.devnull, "wb") as file:  # noqa: PTH123 - a device
        process = subprocess.Popen(
            list(map(str, command)),
            env={**_environment(), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=file if stdout else subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        watcher = threading.Thread(target=(meter or Meter()).watch, args=(process.pid, over))
        watcher.start()
        try:
            said, wrong = process.communicate(timeout=min(7200.0, Patience.left()))
        except subprocess.TimeoutExpired as error:
            process.kill()
            process.communicate()
            raise TooSlow("it was stopped") from error
        finally:
            over.set()
            watcher.join()
    if process.returncode:
        raise RuntimeError(f"{name} ended with {process.returncode}: {wrong.decode(errors='replace')[-800:]}")
    return (said or b"").decode(errors="replace")


def _environment() -> dict[str, str]:
    # A site's proxy may have its own authority; rclone refuses to start with one.
    return {name: value for name, value in os.environ.items() if name != "AWS_CA_BUNDLE"}


def version(*command: str) -> str:
    """Return the version in what a tool says of itself, "" if it is missing."""
    try:
        found = re.search(r"\d+\.\d+[.\d]*", run(command))
    except (Missing, RuntimeError):
        return ""
    return found[0] if found else ""


def flush(path: Path) -> None:
    """Make a file, or all files in a directory, durable: the same for everybody."""
    for one in [path] if path.is_file() else path.rglob("*"):
        if one.is_file():
            with one.open("rb") as file:
                os.fsync(file.fileno())
