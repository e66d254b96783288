"""The watch over one frozen guest, a process of its own: run as a script, it imports nothing of Bollard.

    python -I watchdog.py  <── stdin: {"uri", "vm", "seconds", "file"}
        lock and write <file> ── connect ── say "ready" ── wait ── thaw ── remove <file>

It outlives whoever started it, kill -9 included, because it left its session before it said "ready".
SIGTERM ends it without a thaw: then somebody else has thawed. `<file>` holds its pid, and a lock on it
says that the pid is still its own.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import libvirt

_AGAIN = 0.2  # seconds between two attempts to thaw
_LONG = 600.0  # seconds after which a VM that can't be reached is given up


def main() -> None:
    """Read the order, detach, watch."""
    order = json.load(sys.stdin)
    end = time.monotonic() + order["seconds"]
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    if os.fork():
        os._exit(0)  # the starter reaps this one; init the other
    os.setsid()
    lock = _take(Path(order["file"]))
    connection: Any = libvirt.open(order["uri"])
    os.write(1, b"ready\n")
    os.close(1)
    time.sleep(max(0.0, end - time.monotonic()))
    _thaw(connection, order, time.monotonic() + _LONG)
    Path(order["file"]).unlink(missing_ok=True)
    os.close(lock)


def _take(path: Path) -> int:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.ftruncate(lock, 0)
    os.write(lock, str(os.getpid()).encode())
    return lock


def _thaw(connection: Any, order: dict[str, Any], until: float) -> None:
    """Thaw until it worked or there is no guest to thaw any more: libvirtd may be restarting."""
    while time.monotonic() < until:
        try:
            if not connection.isAlive():
                connection = libvirt.open(order["uri"])
            domain = connection.lookupByName(order["vm"])
            if domain.isActive():
                domain.fsThaw()
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return
            time.sleep(_AGAIN)
        else:
            return


if __name__ == "__main__":
    main()
