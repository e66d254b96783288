"""The driver host's process: started, watched, killed and looked at by the suite.

start ── fork, or spawn and load ─> construct ──> calls … ──> close_driver ──> stop
                                         kill: SIGKILL, at any moment
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ...core.spi import StorageError
from .connection import Connection
from .exchange import call_method, request
from .failures import HostingError, NotHostable
from .frames import Channel
from .launch import UNSEEN, Files, Forked, launch
from .resources import Process, Resources, processes
from .wire import encode

_LOAD_SECONDS = 60.0
_CONTROL_SECONDS = 10.0
_EXIT_SECONDS = 5.0
# A closed connection's thread or process may need a moment to end.
_GRACE = 2.0


class DriverHost:
    """A process that holds a driver class, then an instance of it. Use as a context manager, or `stop()`.

    Attributes:
        target: "module:Class".
        files: what it writes.
        seconds: how long it took until the class was there, loaded.
        left: what the driver still held after its `close`, in words by leak (`leaks.py`) and identity.
    """

    def __init__(
        self,
        target: str,
        files: Files,
        process: subprocess.Popen[bytes] | Forked,
        sock: socket.socket,
        patience: float,
    ) -> None:
        self.target = target
        self.files = files
        self.seconds = 0.0
        self.left: Mapping[tuple[str, object], str] = {}
        self._process = process
        self._ending = threading.Lock()
        self._orphans: list[Process] = []
        self._before: Resources | None = None
        self._connection = Connection(Channel(sock), self.ended, self._end, patience)

    @classmethod
    def start(
        cls,
        target: str,
        workdir: Path,
        *,
        env: Mapping[str, str] | None = None,
        patience: float = 30.0,
        fork: bool = True,
    ) -> Self:
        """Start a host and have it import the driver class.

        Args:
            target: "module:Class".
            workdir: a directory for this host alone.
            env: variables beyond those that every program needs.
            patience: seconds that a call may last beyond its deadline before the host is killed.
            fork: fork it from a template (`launch.py`); False, or the environment variable
                BOLLARD_SPAWN_HOSTS, for drivers that would behave otherwise than in a fresh process.

        Raises:
            NotHostable: the process does not come up, or the class cannot be loaded there.
        """
        begun = time.monotonic()
        files = Files.of(workdir)
        process, sock, loaded = launch(target, files, env or {}, fork=fork)
        host = cls(target, files, process, sock, patience)
        host._begin_with(loaded=loaded)
        host.seconds = time.monotonic() - begun
        return host

    def _begin_with(self, *, loaded: bool) -> None:
        try:
            if not loaded:
                found = {"target": self.target, "path": sys.path}
                request(self._connection, "load", seconds=_LOAD_SECONDS, lane=0, **found)
            self._before = self.resources()
        except BaseException as error:
            self.stop()
            if isinstance(error, StorageError | HostingError):
                text = f"{self.target} cannot be loaded in a driver host: {type(error).__name__}: {error}"
                raise NotHostable(text) from error
            raise

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return not self.ended()

    def ended(self) -> str:
        """Return how it ended ("signal 9", "exit code 0"), or "" while it runs."""
        code = self._process.poll()
        if code is None:
            return ""
        if code == UNSEEN:
            return "nobody saw how"
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    # -- the driver --------------------------------------------------------------------------------

    def construct(self, options: Mapping[str, Any]) -> None:
        """Parse the options and make the driver, both over there.

        Raises:
            StorageError: an option is bad, or the constructor raised it.
            DriverRaised: the constructor raised something else.
        """
        lane = self._connection.lane()
        request(self._connection, "construct", seconds=_LOAD_SECONDS, lane=lane, options=encode(options))

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the driver; what `hosted_class` is made of."""
        return call_method(self._connection, method, arguments, options)

    def close_driver(self) -> None:
        """Close the driver (twice), note in `left` what it still holds, and end the host.

        A host that has ended holds nothing: this succeeds. When the driver's `close` raises, the host
        goes on, and `close_driver` may be called again.
        """
        if not self.alive:
            self.kill()
            return
        self.call("close")
        self.call("close")  # repeatable, says the contract; who closes the hosted driver again finds no host
        self.left = self._still_held()
        self.stop()

    def _still_held(self) -> Mapping[tuple[str, object], str]:
        assert self._before is not None  # since `start`
        deadline = time.monotonic() + _GRACE
        while (left := self.resources().since(self._before)) and time.monotonic() < deadline:
            threading.Event().wait(0.05)
        return left

    # -- crash points ------------------------------------------------------------------------------

    def count(self, *, always: bool = False) -> None:
        """Count the driver's external calls from zero; `always`: also while no method of it runs."""
        self._begin(None, always=always)

    def arm(self, number: int, *, always: bool = False) -> None:
        """Count from zero; the host kills itself (SIGKILL) instead of doing the call of this number."""
        self._begin(number, always=always)

    def counted(self) -> list[str]:
        """Return the calls since `count` in a few words each: "rename a -> b", "Popen qemu-img"."""
        calls: list[str] = request(self._connection, "counted", seconds=_CONTROL_SECONDS)
        return calls

    def _begin(self, fatal: int | None, *, always: bool) -> None:
        request(self._connection, "begin", seconds=_CONTROL_SECONDS, fatal=fatal, always=always)

    # -- the process -------------------------------------------------------------------------------

    def resources(self) -> Resources:
        """Return threads, open files and children as the kernel knows them; the host's own threads not."""
        ours, names = request(self._connection, "threads", seconds=_CONTROL_SECONDS)
        return Resources.of(self.pid, names=dict(names), but=ours)

    def orphans(self) -> list[Process]:
        """Return the processes that the driver had started and that outlived a dead host."""
        there = {(p.pid, p.start) for p in processes(session=self.pid)} if self._orphans else ()
        return [p for p in self._orphans if (p.pid, p.start) in there]

    def kill(self) -> None:
        """End it with SIGKILL and reap it; what its driver had started goes on, as it would in real life."""
        self._end()
        self._connection.close()

    def stop(self) -> None:
        """End it, politely for some seconds, and what it had started; repeatable."""
        if self.alive:
            with suppress(StorageError):
                self._connection.send({"op": "bye", "id": -1})
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_EXIT_SECONDS)
        self.kill()
        for orphan in self.orphans():
            with suppress(ProcessLookupError):
                os.kill(orphan.pid, 9)

    def _end(self) -> None:
        """Kill and reap; by whoever first notices that it must be."""
        with self._ending:
            if not self._orphans:
                self._orphans = [p for p in processes(session=self.pid) if p.pid != self.pid]
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
