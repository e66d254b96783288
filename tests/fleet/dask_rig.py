"""A real Dask cluster of processes: a scheduler and workers that can be stopped, killed and cut off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

# A peer that went without a word is noticed after this; Dask takes no less than 11 s (its own: 30).
_NOTICED = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "12s"}


def until(condition: Callable[[], object], seconds: float = 120) -> None:
    """Wait for what another process brings about."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


@dataclass(slots=True)
class Cluster:
    """Use as a context manager; all of it is killed in the end.

    Attributes:
        home: for its files.
        host: what the scheduler listens on.
    """

    home: Path
    host: str = "127.0.0.1"
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def _contact(self) -> Path:
        return self.home / "scheduler.json"

    @property
    def address(self) -> str:
        """HOST:PORT of the scheduler."""
        text: str = json.loads(self._contact.read_text())["address"]
        return text.removeprefix("tcp://")

    def start_scheduler(self, prefix: Sequence[str] = ()) -> None:
        """Start it and wait until it can be reached."""
        port = self.address.rpartition(":")[2] if self._contact.exists() else "0"
        self._contact.unlink(missing_ok=True)
        options = ["--host", self.host, "--port", port, "--scheduler-file", str(self._contact)]
        self._start("scheduler", prefix, *options, "--dashboard-address", f"{self.host}:0")
        until(lambda: self._contact.exists() and self._contact.read_text().endswith("}"))  # not half written

    def start_worker(
        self, name: str, tags: str, config: Path, *, prefix: Sequence[str] = (), host: str = "127.0.0.1"
    ) -> None:
        """Start a worker of one thread, as if on a machine of its own."""
        directory = self.home / name
        directory.mkdir(exist_ok=True)
        options = ["--nthreads", "1", "--no-nanny", "--resources", tags, "--host", host]
        options += ["--name", name, "--local-directory", str(directory), "--dashboard-address", f"{host}:0"]
        environment = {"BOLLARD_CONFIG": str(config), "BOLLARD_STATE": str(directory / "state")}
        self._start("worker", prefix, f"tcp://{self.address}", *options, name=name, **environment)

    def _start(self, kind: str, prefix: Sequence[str], *options: str, name: str = "", **more: str) -> None:
        command = [*prefix, sys.executable, "-m", f"distributed.cli.dask_{kind}", *options]
        with (self.home / f"{name or kind}.log").open("ab") as log:
            self.processes[name or kind] = subprocess.Popen(
                command, env=os.environ | _NOTICED | more, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    def pause(self, name: str) -> None:
        """Let it hang, with whatever it has in hand."""
        self.processes[name].send_signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Let it go on."""
        self.processes[name].send_signal(signal.SIGCONT)

    def kill(self, name: str) -> None:
        """Kill -9."""
        process = self.processes.pop(name)
        process.kill()
        process.wait(30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for name in list(self.processes):
            self.kill(name)
