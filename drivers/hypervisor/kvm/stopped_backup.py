"""Serving the disk of a VM that is off: qemu-nbd, read-only, until it is told to end.

It is a server of its own and no child that dies with us: whoever has the location reads from it, from
whatever process. Its lock on the image keeps the VM from being started meanwhile.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from ....core.spi import Busy, Call, Internal, InUse, Outcome, StorageError, Unavailable, Unsupported
from .backup_record import BackupRecord

_PATIENCE = 30.0  # seconds for it to begin or to end


def serve(record: BackupRecord, image: Path, device: str, bitmap: str | None, call: Call) -> None:
    """Start the server; it listens when this returns.

    Raises:
        InUse: somebody writes to the image.
        Unsupported: qemu-nbd is not installed.
    """
    record.socket.unlink(missing_ok=True)
    command = ["qemu-nbd", "--read-only", "--persistent", "--shared=0", "--fork"]
    command += [f"--pid-file={record.pid}", f"--socket={record.socket}", f"--export-name={device}"]
    command += [f"--bitmap={bitmap}"] if bitmap else []
    try:
        done = subprocess.run(
            [*command, "--format=qcow2", str(image)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=call.remaining(_PATIENCE),
            check=False,
            cwd="/",
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError as error:
        raise Unsupported("qemu-nbd is not installed (Debian: apt install qemu-utils)") from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable("qemu-nbd does not start", outcome=Outcome.UNKNOWN) from error
    if done.returncode:
        raise _refused(done.stderr.decode(errors="replace").strip())


def _refused(said: str) -> StorageError:
    kind = InUse if "lock" in said else Unavailable
    return kind(f"qemu-nbd: {said[-300:]}", outcome=Outcome.NOT_APPLIED)


def is_served(record: BackupRecord) -> bool:
    """Tell whether its server runs."""
    process = _server(record)
    if process is not None:
        os.close(process)
    return process is not None


def end(record: BackupRecord) -> None:
    """End the server; fine if there is none."""
    process = _server(record)
    if process is None:
        return
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(process, number)
            gone, _, _ = select.select([process], [], [], _PATIENCE)
            if gone:
                return
        raise Busy("qemu-nbd does not end", outcome=Outcome.UNKNOWN)
    finally:
        os.close(process)


def _server(record: BackupRecord) -> int | None:
    """Return a descriptor of the server's process: its pid, and this socket on its command line."""
    try:
        pid = int(record.pid.read_text())
        process = os.pidfd_open(pid)
    except (FileNotFoundError, ProcessLookupError):
        return None
    except ValueError as error:
        raise Internal(f"{record.pid} holds no pid") from error
    try:
        # Looked at after it was opened: so it is this very process.
        if f"--socket={record.socket}".encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
            return process
    except (FileNotFoundError, ProcessLookupError):
        pass
    os.close(process)
    return None
