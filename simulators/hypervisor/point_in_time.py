"""A copy of a disk at one instant, and the real qemu-nbd that serves it with a real dirty bitmap.

<directory>/copy     the disk's bytes, raw
            marks    an empty qcow2 whose bitmap was filled by writes
            top      a qcow2 over the copy with that bitmap, merged into it: an export's meta context
                     "qemu:dirty-bitmap:NAME" is the same as with KVM
            socket   where qemu-nbd listens; told as /proc/<pid>/fd/<n>/socket, since a socket's path has 107
                     bytes at most, and the state directory may lie deep
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from .checkpoints import GRANULE
from .errors import Refused, failed

_HELPER = Path(__file__).with_name("become_server.py")
_PATIENCE = 20.0  # seconds for a tool to end, or a server to greet
_GREETING = 8
_TOOLS = ("qemu-img", "qemu-io", "qemu-nbd")


class PointInTime:
    """One copy and its server.

    Args:
        directory: of its files; made when the copy is.

    Attributes:
        frozen_s: for how long the guest stood still for it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.copy = directory / "copy"
        self._place: int | None = None
        self.frozen_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._started = threading.Event()

    def require(self) -> None:
        """Refuses where it could not be served, and makes the directory.

        Raises:
            Refused: 501 without QEMU's tools.
        """
        missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
        if missing:
            raise Refused(501, "unsupported", f"{missing[0]} is not installed")
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir(parents=True, mode=0o700)
        self._place = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    @property
    def address(self) -> Path:
        """Where its server listens, as long as the simulator lives."""
        return Path(f"/proc/{os.getpid()}/fd/{self._place}/socket")

    @property
    def served(self) -> bool:
        """Whether its server runs."""
        return self._process is not None and self._process.poll() is None

    def serve(self, export: str, bitmap: str | None, dirty: Sequence[int], *, writable: bool) -> None:
        """Serves the copy; with a bitmap that has these blocks marked, if it has a name.

        Raises:
            Refused: 500 when a tool fails.
        """
        command = ["qemu-nbd", "--persistent", "--shared=0", f"--export-name={export}"]
        command += [] if writable else ["--read-only"]
        if bitmap is None:
            self._start([*command, "--format=raw", str(self.copy)])
            return
        top = self._with_bitmap(bitmap, dirty)
        self._start([*command, "--format=qcow2", f"--bitmap={bitmap}", str(top)])

    def _with_bitmap(self, bitmap: str, dirty: Sequence[int]) -> Path:
        size = self.copy.stat().st_size
        marks, top = self._directory / "marks", self._directory / "top"
        _run("qemu-img", "create", "-q", "-f", "qcow2", str(marks), str(size))
        _run("qemu-img", "bitmap", "--add", "-g", str(GRANULE), "-f", "qcow2", str(marks), bitmap)
        writes = [
            part for start, end in _runs(dirty, size) for part in ("-c", f"write -z {start} {end - start}")
        ]
        if writes:
            _run("qemu-io", "-f", "qcow2", *writes, str(marks))
        _run("qemu-img", "create", "-q", "-f", "qcow2", "-b", str(self.copy), "-F", "raw", str(top))
        merge = ["--merge", bitmap, "-b", str(marks), "-F", "qcow2"]
        _run("qemu-img", "bitmap", "--add", *merge, "-g", str(GRANULE), "-f", "qcow2", str(top), bitmap)
        return top

    def _start(self, command: Sequence[str]) -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self.address))
        listener.listen(16)
        # The kernel sends the death signal when the *thread* that started the child ends: a thread of its
        # own starts it, and ends when the child did.
        threading.Thread(
            target=self._supervise, args=(listener, command), daemon=True, name="point-in-time"
        ).start()
        self._started.wait()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(_PATIENCE)
            with suppress(OSError):  # a server that cannot open its image resets the connection
                client.connect(str(self.address))
                if client.recv(_GREETING):
                    return
        self.end()
        raise failed("qemu-nbd does not serve the copy")

    def _supervise(self, listener: socket.socket, command: Sequence[str]) -> None:
        try:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    "-S",
                    str(_HELPER),
                    str(os.getpid()),
                    str(listener.fileno()),
                    *command,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(listener.fileno(),),
                cwd="/",
            )
        finally:
            listener.close()
            self._started.set()
        self._process.wait()

    def end(self) -> None:
        """Ends the server and removes the files; repeatable."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._place is not None:
            os.close(self._place)
            self._place = None
        shutil.rmtree(self._directory, ignore_errors=True)


def _runs(blocks: Sequence[int], size: int) -> Iterator[tuple[int, int]]:
    """(first, end) in bytes of each run of blocks, within the size."""
    run: list[int] = []
    for block in blocks:
        if run and block != run[-1] + 1:
            yield run[0] * GRANULE, (run[-1] + 1) * GRANULE
            run = []
        if block * GRANULE < size:
            run.append(block)
    if run:
        yield run[0] * GRANULE, min((run[-1] + 1) * GRANULE, size)


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=_PATIENCE, stdin=subprocess.DEVNULL)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise failed(f"{command[0]} {command[1]} failed") from error
