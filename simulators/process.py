"""Run any simulator as a child process and wait until it is ready.

    with SimulatorProcess.start("swift", "--state", str(path), env={"BOLLARD_SWIFT_USERS": ...}) as swift:
        connect(swift.url)

Every simulator is a module ``bollard.simulators.<name>`` that prints one JSON line on standard output
when it serves, and stops on SIGTERM.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from types import TracebackType
from typing import IO, Any, Self


class SimulatorFailed(RuntimeError):
    """The child ended, stayed silent or printed something else before it was ready."""


class SimulatorProcess:
    """A simulator that runs as a child of this process.

    Attributes:
        ready: the ready line, decoded.
        url: where it serves.
        pid: its process id.
    """

    def __init__(self, child: subprocess.Popen[bytes], ready: Mapping[str, Any], errors: IO[bytes]) -> None:
        self._child = child
        self._errors = errors
        self.ready = ready

    @classmethod
    def start(
        cls, name: str, *arguments: str, env: Mapping[str, str] | None = None, timeout_s: float = 30.0
    ) -> Self:
        """Starts ``python -m bollard.simulators.<name>`` and waits for its ready line.

        Args:
            name: ``swift``, ``s3``, ``hypervisor``, ``array``...
            arguments: passed as they are; secrets do not belong here, ``ps`` shows them.
            env: added to this process's environment.
            timeout_s: seconds to wait for the ready line.

        Raises:
            SimulatorFailed: with the end of what the child wrote on standard error.
        """
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        child = subprocess.Popen(
            [sys.executable, "-m", f"bollard.simulators.{name}", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **(env or {})},
        )
        try:
            return cls(child, _ready_line(child, time.monotonic() + timeout_s), errors)
        except ValueError as error:
            said = _end(child, errors)
            raise SimulatorFailed(f"simulator {name} is not ready: {error}; it said: {said}") from error
        except BaseException:
            _end(child, errors)
            raise

    @property
    def url(self) -> str:
        """Where it serves."""
        return str(self.ready["url"])

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    def stop(self, timeout_s: float = 10.0) -> int:
        """SIGTERM, then SIGKILL after ``timeout_s`` seconds; returns the exit code, 0 for a clean stop."""
        self._child.terminate()
        try:
            self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._child.kill()
        return self._reap()

    def kill(self) -> None:
        """SIGKILL, as a power cut for the process; returns when it is gone and its locks are free."""
        self._child.kill()
        self._reap()

    def _reap(self) -> int:
        code = self._child.wait()
        if self._child.stdout is not None:
            self._child.stdout.close()
        self._errors.close()
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _ready_line(child: subprocess.Popen[bytes], deadline: float) -> dict[str, Any]:
    assert child.stdout is not None  # noqa: S101 - Popen was given a pipe
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(deadline - time.monotonic()):
                raise ValueError("no ready line in time")
            data = os.read(child.stdout.fileno(), 4096)
            if not data:
                raise ValueError("it ended")
            line += data
    decoded = json.loads(line)
    if not isinstance(decoded, dict) or "url" not in decoded:
        raise ValueError("its first line is not a ready line")
    return decoded


def _end(child: subprocess.Popen[bytes], errors: IO[bytes]) -> str:
    child.kill()
    child.wait()
    if child.stdout is not None:
        child.stdout.close()
    errors.seek(0)
    said = errors.read()[-2000:].decode(errors="replace").strip()
    errors.close()
    return said
