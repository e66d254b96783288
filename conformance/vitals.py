"""What the driver's process holds, read from /proc: its host where it has one, else the suite itself."""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """One look; memory in bytes.

    Attributes:
        rss: resident now.
        peak: the most since the process began, or since `forget_peak`.
    """

    fds: int
    threads: int
    rss: int
    peak: int

    @classmethod
    def of(cls, driver: Any) -> Self:
        """Look at a driver's process."""
        pid = pid_of(driver)
        if pid == os.getpid():
            gc.collect()  # what only a cycle keeps open is no leak
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
        )
        return cls(
            fds=len(list(Path(f"/proc/{pid}/fd").iterdir())),
            threads=int(status["Threads"]),
            rss=_bytes(status["VmRSS"]),
            peak=_bytes(status["VmHWM"]),
        )


def pid_of(driver: Any) -> int:
    """Return the process that a driver runs in."""
    host = getattr(driver, "host", None)
    return os.getpid() if host is None else int(host.pid)


def forget_peak(driver: Any) -> None:
    """Let the peak of the driver's process be what is resident now (proc(5), clear_refs, 5)."""
    Path(f"/proc/{pid_of(driver)}/clear_refs").write_text("5")


def bytes_read(driver: Any) -> int:
    """Return what the driver's process, and the helpers that it waited for, have read (proc(5), io, rchar).

    Files, pipes and TLS; what a plain socket receives is not in it.
    """
    lines = Path(f"/proc/{pid_of(driver)}/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])


def _bytes(text: str) -> int:
    return int(text.split()[0]) * 1024
