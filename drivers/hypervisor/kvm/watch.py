"""Setting a watch over a guest before it is frozen, and calling it off after the thaw.

Why a process on this side and not a helper inside the guest: guests commonly forbid guest-exec, its
shell may live on the frozen file system, and a thaw behind the agent's back leaves the agent believing
that the guest is frozen still. Why a process and not a thread: it must outlive our own kill -9.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from ....core.dataplane.os_errors import os_errors
from ....core.spi import Busy, Call, Outcome, Unavailable
from .connection import HostLink
from .machine import Machine, domain_name

_SCRIPT = Path(__file__).with_name("watchdog.py")
_PATIENCE = 15.0  # seconds for it to start and to connect, on a busy machine
_SAVED = 4096


class FreezeWatch:
    """The watch over the guest of one VM. There is one at most, of whatever process."""

    def __init__(self, state: Path, machine: Machine) -> None:
        self._link: HostLink = machine.link
        self._vm = machine.vm
        self._file = state / machine.link.host / "frozen" / machine.vm

    def set(self, seconds: float, call: Call) -> None:
        """Start it: it thaws the guest so many seconds from now.

        Raises:
            Busy: another watch is set: the guest is frozen, or about to be (not applied).
        """
        if self.is_set():
            raise Busy(f"VM {self._vm}: its guest is frozen already, or about to be")
        with os_errors(f"cannot make {self._file.parent}"):
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        order = {
            "uri": self._link.uri,
            "vm": domain_name(self._vm),
            "seconds": seconds,
            "file": str(self._file),
        }
        process = subprocess.Popen(
            [sys.executable, "-I", str(_SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )
        with process:
            try:
                self._handed_over(process, order, min(_PATIENCE, call.remaining()))
            except BaseException:
                process.kill()
                self.call_off()
                raise

    def _handed_over(
        self, process: subprocess.Popen[bytes], order: dict[str, object], seconds: float
    ) -> None:
        assert process.stdin is not None  # noqa: S101 - for mypy: it was asked for
        assert process.stdout is not None  # noqa: S101 - idem
        process.stdin.write(json.dumps(order).encode())
        process.stdin.close()
        readable, _, _ = select.select([process.stdout], [], [], seconds)
        if not readable or process.stdout.readline() != b"ready\n":
            raise Unavailable(f"VM {self._vm}: the watch did not start", outcome=Outcome.NOT_APPLIED)

    def is_set(self) -> bool:
        """Tell whether somebody watches."""
        pid = self._watcher()
        if pid is not None:
            os.close(pid)
        return pid is not None

    def call_off(self) -> None:
        """End it without a thaw; fine if there is none."""
        process = self._watcher()
        if process is None:
            self._file.unlink(missing_ok=True)
            return
        try:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(process, signal.SIGTERM)
                select.select([process], [], [], _PATIENCE)
        finally:
            os.close(process)
        self._file.unlink(missing_ok=True)

    def _watcher(self) -> int | None:
        """Return a descriptor of the watching process, or None.

        The lock is looked at after the process was opened: so the pid cannot be somebody else's.
        """
        try:
            lock = os.open(self._file, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            process = _opened(os.pread(lock, _SAVED, 0))
            if process is not None and not _is_held(lock):
                os.close(process)
                return None
            return process
        finally:
            os.close(lock)


def _opened(text: bytes) -> int | None:
    with suppress(ValueError, ProcessLookupError):
        return os.pidfd_open(int(text))
    return None


def _is_held(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
