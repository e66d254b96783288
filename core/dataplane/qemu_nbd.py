"""A private qemu-nbd for one image, or for one LUN (iscsi.py).

    us                                         qemu-nbd
    socketpair-like private unix socket
    listen ── connect (waits in the backlog)
    open the image, O_NOFOLLOW ── fds ───────> opens /proc/self/fd/N, serves the backlog
    first bytes of the greeting  <──────────── ready: nothing was polled, nobody slept

- The socket's name is unlinked before the server starts; we connect through our descriptor of it. No
  other process can connect, nothing stays behind in /tmp, and the length limit of unix paths is moot.
- The image goes over as a descriptor: qemu never sees a path, so neither commas, "json:" or a link
  swapped in later can make it open something else.
- A server that cannot open the image exits, the kernel resets the connection in the backlog, and
  its stderr becomes our error.
- It ends when the last connection closes, also by our kill -9; `activate.py` covers the start-up.
- Unix sockets only: QEMU 7.2's server stalls over TCP at a depth > 1 (4 KiB reads: 374-667 per
  second against 20,000 on a unix socket).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from ..spi.errors import (
    DataLoss,
    InUse,
    InvalidArgument,
    OutOfCapacity,
    PermissionDenied,
    StorageError,
    Unavailable,
    Unsupported,
)
from .endpoint import connect_unix
from .os_errors import os_errors

_ACTIVATE = Path(__file__).with_name("activate.py")
# Closing flushes the image's caches; on a slow disk that is seconds, not minutes.
_EXIT_TIMEOUT = 30.0
_BACKLOG = 64
_FIRST_FREE_FD = 10

Reasons: TypeAlias = Sequence[tuple[str, type[StorageError]]]

_REASONS: Reasons = (
    ("lock", InUse),
    ("not in qcow2 format", InvalidArgument),
    ("Unsupported qcow2 version", Unsupported),
    ("Unsupported", Unsupported),
    ("corrupt", DataLoss),
    ("Input/output error", DataLoss),
    ("No space left", OutOfCapacity),
    ("Permission denied", PermissionDenied),
    ("Read-only file system", PermissionDenied),
)
"""What qemu says when it does not start, most telling first; it has no codes."""


class PrivateServer:
    """An `Endpoint` that starts qemu-nbd with the first connection and reaps it after the last.

    Args:
        name: what is served, for messages.
        fds: open files that QEMU is given; owned from now on.
        arguments: returns qemu-nbd's arguments, from the numbers that the files have over there.
        reasons: what QEMU says when it does not start, and which error that is; the first hit counts.
        timeout: seconds to wait for a connection.
        patience: seconds that it may take to end in order before it is killed.

    Raises:
        Unsupported: qemu-nbd is not installed.
    """

    hostname = None

    def __init__(
        self,
        name: str,
        fds: Sequence[int],
        arguments: Callable[[Sequence[int]], Sequence[str]],
        *,
        reasons: Reasons,
        timeout: float,
        patience: float = _EXIT_TIMEOUT,
    ) -> None:
        binary = program()
        self._name = name
        self._reasons = reasons
        self._timeout = timeout
        self._patience = patience
        self._lock = threading.Lock()
        self._connections = 0
        self._stderr = os.memfd_create("qemu-nbd-stderr")
        self._reason = ""
        self._started = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        with os_errors("cannot make a private socket"):
            listener, self._socket = private_listener()
        # activate.py puts the listener at 3; were the image there, it would be lost.
        moved = [moved_up(fd) for fd in fds]
        # No --persistent: it ends with its last client.  --shared=0: any number of them.
        command = [binary, "--shared=0", *arguments(moved)]
        self._thread = threading.Thread(
            target=self._supervise, args=(command, listener, moved), name="qemu-nbd", daemon=True
        )

    # The kernel sends the death signal when the *thread* that started the child ends. So a thread
    # of its own starts it, and ends when the child did. WNOWAIT: `release` reaps it, so that the
    # pid that it signals cannot have become somebody else's.
    def _supervise(self, command: list[str], listener: socket.socket, fds: list[int]) -> None:
        inner = [str(os.getpid()), str(listener.fileno()), *command]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_ACTIVATE), *inner],
                stdin=subprocess.DEVNULL,
                stdout=self._stderr,
                stderr=self._stderr,
                pass_fds=(listener.fileno(), *fds),
                cwd="/",
            )
        except OSError as error:
            os.write(self._stderr, str(error).encode())
        finally:
            # From here on the child alone listens: if it dies, our connections break at once.
            listener.close()
            for fd in fds:
                os.close(fd)
            self._started.set()
        if self._process:
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)

    def connect(self) -> socket.socket:
        """Connect, starting the server if this is the first connection."""
        with self._lock, os_errors(f"cannot connect to qemu-nbd for {self._name}"):
            sock = connect_unix(f"/proc/self/fd/{self._socket}", timeout=self._timeout)
            if not self._thread.ident:
                self._thread.start()
            self._connections += 1
            return sock

    def release(self) -> None:
        """After the last connection: end the server, kill it if it hangs, reap it."""
        with self._lock:
            self._connections -= 1
            if self._connections:
                return
            self._started.wait()
            if self._process:
                self._end(self._process)
            self._reason = os.pread(self._stderr, 4096, 0).decode(errors="replace").strip()
            os.close(self._stderr)
            os.close(self._socket)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        # It ends by itself after a client that it served, not after one that gave up before.
        # SIGTERM is its orderly way out, the same as after the last client.
        os.kill(process.pid, signal.SIGTERM)
        self._thread.join(self._patience)
        if self._thread.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            self._thread.join(_EXIT_TIMEOUT)  # it waits for the child, which `wait` below takes away
        with suppress(subprocess.TimeoutExpired):  # not even SIGKILL ends a process on a dead disk
            process.wait(_EXIT_TIMEOUT)

    def explain(self, error: Unavailable) -> StorageError:
        """Return why the server did not start, from its stderr; `error` is what the client saw."""
        if not self._reason:
            return error
        kind = reason_of(self._reason, self._reasons)
        return kind(f"qemu-nbd cannot open {self._name}", outcome=error.outcome, detail=self._reason)


class QemuNbd(PrivateServer):
    """A server for an image file.

    Args:
        image: what is served, for messages.
        fd: the open image; owned from now on.
        backing: the open images below it, from top to base, qcow2 all; owned from now on. Without, QEMU
            opens what the image's header names.
        driver: QEMU's format driver, always explicit.
        arguments: more of qemu-nbd's options.
        timeout: seconds to wait for a connection.

    Raises:
        Unsupported: qemu-nbd is not installed.
    """

    def __init__(
        self,
        image: Path,
        fd: int,
        driver: str,
        arguments: Sequence[str] = (),
        *,
        backing: Sequence[int] = (),
        timeout: float,
    ) -> None:
        super().__init__(
            str(image),
            [fd, *backing],
            lambda fds: [*arguments, "--image-opts", _image_options(driver, fds)],
            reasons=_REASONS,
            timeout=timeout,
        )


def reason_of(said: str, reasons: Reasons = _REASONS) -> type[StorageError]:
    """Return the error for what qemu-nbd said when it did not start."""
    return next((kind for hint, kind in reasons if hint.lower() in said.lower()), Unavailable)


def program() -> str:
    """Return the path of qemu-nbd.

    Raises:
        Unsupported: it is not installed.
    """
    found = shutil.which("qemu-nbd")
    if found is None:
        raise Unsupported("qemu-nbd is not installed (Debian: apt install qemu-utils)")
    return found


def moved_up(fd: int) -> int:
    """Return the same open file under a number that nothing else of the child's takes."""
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE_FD)
    finally:
        os.close(fd)


def _image_options(driver: str, fds: Sequence[int]) -> str:
    """Spell out every image from top to base, so that QEMU follows no name in a header."""
    parts = []
    for depth, fd in enumerate(fds):
        below = "backing." * depth
        parts += [f"{below}driver={driver}", f"{below}file.driver=file"]
        parts += [f"{below}file.filename=/proc/self/fd/{fd}"]
    return ",".join(parts)


def private_listener() -> tuple[socket.socket, int]:
    """Return a listening unix socket without a name, and a descriptor to connect to it through.

    In a thread, which no signal interrupts: Ctrl-C while the directory went left it in $TMPDIR.
    """
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(_listen).result()


def _listen() -> tuple[socket.socket, int]:
    """Bind, open and unlink the socket.

    The directory is named by its descriptor: a socket's path has at most 107 bytes, and a long
    $TMPDIR (pytest's, macOS's) would not fit.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with tempfile.TemporaryDirectory(prefix="bollard-nbd-") as directory:
        place = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            path = f"/proc/self/fd/{place}/socket"
            listener.bind(path)
            listener.listen(_BACKLOG)
            return listener, os.open(path, os.O_PATH | os.O_CLOEXEC)
        finally:
            os.close(place)
