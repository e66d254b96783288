"""What all HTTP simulators share: a state directory with a lock, start and stop, the ready line."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import threading
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self

from .http_server import HttpServer, KeepAliveHandler

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["HttpServer", "HttpSimulator", "serve"]


class HttpSimulator(ABC):
    """Base of the HTTP simulators: a context manager around a server, its state directory and its lock.

    Args:
        state: directory of the durable state; made when missing. One running simulator per directory.
        port: TCP port; 0 takes a free one.

    Raises:
        RuntimeError: from ``start``, when it runs already or something else serves the same directory.
    """

    handler: type[KeepAliveHandler] = KeepAliveHandler

    def __init__(self, state: str | os.PathLike[str], port: int = 0) -> None:
        self.state = Path(state)
        self._port = port
        self._server: HttpServer | None = None
        self._lock_file: IO[str] | None = None

    @abstractmethod
    def application(self) -> WSGIApplication:
        """Opens the durable state and returns what answers requests."""

    @abstractmethod
    def close_state(self) -> None:
        """Closes what ``application`` opened, if it did; called after the last request ended."""

    @abstractmethod
    def ready(self) -> dict[str, object]:
        """What the ready line says beside url and pid; nothing secret."""

    @property
    def url(self) -> str:
        """Where the running server answers, without a trailing slash."""
        if self._server is None:
            raise RuntimeError("the simulator is not running")
        return f"http://127.0.0.1:{self._server.port}"

    def start(self) -> Self:
        """Locks the state directory, opens it and begins to serve."""
        if self._server is not None:
            raise RuntimeError("the simulator runs already")
        self.state.mkdir(parents=True, exist_ok=True)
        self._lock_file = _lock(self.state / "lock")
        try:
            self._server = HttpServer(self.application(), self._port, self.handler)
        except BaseException:
            self.stop()
            raise
        self._server.start()
        return self

    def stop(self) -> None:
        """Ends all requests and closes the state; a stopped simulator can be started again."""
        if self._server is not None:
            self._server.stop()
            self._server = None
        self.close_state()
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _lock(path: Path) -> IO[str]:
    """An exclusive lock that the kernel drops when the process dies, however it dies."""
    handle = path.open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        handle.close()
        raise RuntimeError(f"another simulator serves {path.parent}") from error
    return handle


def serve(simulator: HttpSimulator, out: IO[str]) -> None:
    """Runs a simulator as this process: one JSON line when ready, clean stop on SIGTERM or SIGINT.

    Args:
        simulator: not started yet.
        out: where the ready line goes (standard output).
    """
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    with simulator:
        line = {"url": simulator.url, "pid": os.getpid(), **simulator.ready()}
        out.write(json.dumps(line) + "\n")
        out.flush()
        ending.wait()
