"""Driver hosts are started: forked from a template of their class, or spawned if they must not be.

launch ──┬── fork ──> template of (class, sys.path, environment) ──> host      milliseconds
         └── spawn ─> Python, server, the driver's import         ──> host      some tenths of a second
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Self

from .frames import PIECE
from .template import LONGEST

UNSEEN = 256
"""Exit code of a host whose template was gone before it could be asked; no process has this one."""

SPAWN = "BOLLARD_SPAWN_HOSTS"
"""Environment variable: if set, no host is forked."""

_SERVER, _TEMPLATE = f"{__package__}.server", f"{__package__}.template"
_SECONDS = 60.0  # for an import; all else is a matter of milliseconds
# What a process needs to find programs, libraries, certificates and its language; nothing that the
# user's shell happens to hold. COVERAGE_*: a vendor may want to know what of the driver the suite ran.
_KEPT = (
    "PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "LD_LIBRARY_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "COVERAGE_PROCESS_START",
    "COVERAGE_PROCESS_CONFIG",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What a host writes, in the directory that it was given.

    Attributes:
        log: every log record at DEBUG, from all loggers.
        output: what the driver printed, and the traces of its threads.
        temp: its TMPDIR and HOME.
    """

    log: Path
    output: Path
    temp: Path

    @classmethod
    def of(cls, workdir: Path) -> Self:
        """Make the directories; the files are for nobody else's eyes."""
        files = cls(log=workdir / "driver.log", output=workdir / "output.log", temp=workdir / "tmp")
        files.temp.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in (files.log, files.output):
            path.touch(mode=0o600)
        return files


class Forked:
    """A host that was forked: no child of ours, and yet handled as `subprocess.Popen` is."""

    def __init__(self, pid: int, template: _Template) -> None:
        self.pid = pid
        self._template = template
        self._fd = os.pidfd_open(pid)
        self._code: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """Return how it ended, as `Popen.poll` does, or None while it runs."""
        with self._lock:
            if self._code is None and _readable(self._fd, 0):
                self._code = self._template.reap(self.pid)
                os.close(self._fd)
            return self._code

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; `subprocess.TimeoutExpired` when it goes on."""
        with self._lock:
            fd = os.dup(self._fd) if self._code is None else None
        if fd is not None:
            try:
                _readable(fd, None if timeout is None else timeout * 1000)
            finally:
                os.close(fd)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return code

    def kill(self) -> None:
        """Send SIGKILL, unless it has ended."""
        with self._lock, suppress(ProcessLookupError):
            if self._code is None:
                signal.pidfd_send_signal(self._fd, signal.SIGKILL)


def _readable(fd: int, milliseconds: float | None) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(milliseconds))


class _Template:
    """The suite's end of one template process.

    Attributes:
        unsafe: why nothing is forked from it, or "".
    """

    def __init__(self, target: str, environment: Mapping[str, str]) -> None:
        self._asking = threading.Lock()
        # Of packets, so that a message is read whole, together with the descriptors that it carries.
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, TemporaryFile() as output:
            fd = theirs.fileno()
            self._process = _python(_TEMPLATE, ["--fd", str(fd)], output.fileno(), fd, environment)
        self._sock.settimeout(_SECONDS)
        try:
            self.unsafe = str(self._ask("load", target=target, path=sys.path))
        except OSError as error:
            self.unsafe = f"its import ended the process ({error})"
        if self.unsafe:
            self.close()

    def fork(self, fds: list[int], files: Files, environment: Mapping[str, str]) -> Forked:
        """Have a host forked; `OSError` when the template is gone."""
        own = {name: environment.get(name, place) for name, place in _places(files).items()}
        pid = self._ask("fork", fds, log=str(files.log.absolute()), environ=own)
        return Forked(pid, self)  # the pid is the host's until we ask how it ended

    def reap(self, pid: int) -> int:
        """Return how a dead host ended."""
        try:
            return int(self._ask("reap", pid=pid))
        except OSError:
            return UNSEEN

    def close(self) -> None:
        """End it, and not the hosts that were forked from it; repeatable."""
        self._process.kill()
        self._process.wait()
        self._sock.close()

    def _ask(self, op: str, fds: list[int] | None = None, **fields: object) -> Any:
        with self._asking:
            try:
                socket.send_fds(self._sock, [json.dumps({"op": op, **fields}).encode()], fds or [])
                if not (answer := self._sock.recv(LONGEST)):
                    raise ConnectionResetError("the template of driver hosts has ended")
            except BaseException:  # Ctrl-C: an answer that nobody took would be taken for the next one
                self.close()
                raise
        return json.loads(answer)


class _Templates:
    """The templates of this process, by what a host cannot change after the fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[object, _Template] = {}

    def get(self, target: str, environment: dict[str, str], files: Files) -> tuple[object, _Template]:
        """Return the template for a class, started if need be, and what it is known by."""
        key = (target, tuple(sys.path), Path.cwd(), tuple(environment.items()), os.getpid())
        with self._lock:
            if key not in self._known:
                # The first host's directory: an import that writes there has to be seen.
                self._known[key] = _Template(target, _places(files) | environment)
            return key, self._known[key]

    def drop(self, key: object, template: _Template) -> None:
        """Forget one that has ended, unless another thread has replaced it already."""
        with self._lock:
            if self._known.get(key) is template:
                del self._known[key]
        template.close()

    def close(self) -> None:
        """End all; the next host starts a new one."""
        for key, template in list(self._known.items()):
            self.drop(key, template)


_templates = _Templates()


def launch(
    target: str, files: Files, env: Mapping[str, str], *, fork: bool
) -> tuple[subprocess.Popen[bytes] | Forked, socket.socket, bool]:
    """Start a host; returns its process, the socket to it, and whether the class is loaded there.

    Args:
        target: "module:Class".
        files: what it writes.
        env: variables beyond those that every program needs.
        fork: whether it may be forked; it is spawned, too, if its class forbids that, as the log then says.
    """
    environment = _environment() | dict(env)
    # A template that was killed is replaced; one that is killed again is better not asked a third time.
    for _ in range(2 if fork and not _forbidden(environment) else 0):
        key, template = _templates.get(target, environment, files)
        if template.unsafe:
            files.log.write_text(f"spawned, for {target} must not be forked: {template.unsafe}\n")
            break
        with suppress(OSError):
            return *_fork(template, files, environment), True
        _templates.drop(key, template)
    return *_spawn(files, environment), False


def close_templates() -> None:
    """End the templates, which otherwise end with this process: they are children of it, and hold sockets."""
    _templates.close()


atexit.register(close_templates)


def _forbidden(environment: Mapping[str, str]) -> bool:
    """Tell whether the user wants no forks; coverage is measured from a process's start on, or not at all."""
    return SPAWN in os.environ or any(name.startswith("COVERAGE_") for name in environment)


def _fork(template: _Template, files: Files, environment: Mapping[str, str]) -> tuple[Forked, socket.socket]:
    ours, theirs = _socketpair()
    try:
        with theirs, files.output.open("ab") as output:
            return template.fork([theirs.fileno(), output.fileno()], files, environment), ours
    except BaseException:
        ours.close()  # a host that was forked all the same ends with it
        raise


def _spawn(files: Files, environment: dict[str, str]) -> tuple[subprocess.Popen[bytes], socket.socket]:
    ours, theirs = _socketpair()
    with theirs, files.output.open("ab") as output:
        fd = theirs.fileno()
        arguments = ["--fd", str(fd), "--log", str(files.log)]
        return _python(_SERVER, arguments, output.fileno(), fd, _places(files) | environment), ours


def _python(
    module: str, arguments: list[str], output: int, fd: int, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-u", "-P", "-m", module, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        pass_fds=[fd],
        env=environment,
        start_new_session=True,  # Ctrl-C is for the suite, which then closes the driver in order
    )


def _socketpair() -> tuple[socket.socket, socket.socket]:
    """Return a pair that takes a whole piece of data: with less, each piece costs 20 switches of process."""
    pair = socket.socketpair()
    for end in pair:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PIECE)
    return pair


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    # The path is for finding the server; it gives itself the suite's own sys.path before it loads a driver.
    return kept | {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}


def _places(files: Files) -> dict[str, str]:
    """Return the variables that are another host's as soon as the directory is."""
    return {"HOME": str(files.temp), "TMPDIR": str(files.temp)}
