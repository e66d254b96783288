"""libvirt's event loop: one thread for all connections of the process, and none when there are none.

Without it a client notices neither that libvirtd has died nor that it hangs: keepalive is an event.
"""

from __future__ import annotations

import threading
from typing import Any

import libvirt


class EventLoop:
    """Runs while anybody holds it. libvirt has one loop per process, hence the one instance `LOOP`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._alarm: int | None = None

    def hold(self) -> None:
        """Start it, if this is the first holder. To be called before a connection is opened."""
        with self._lock:
            self._holders += 1
            if self._holders > 1:
                return
            if self._alarm is None:  # the first time in this process
                libvirt.virEventRegisterDefaultImpl()
                # libvirt prints every error to stderr by default, on top of raising it.
                libvirt.registerErrorHandler(_silent, None)
                self._alarm = libvirt.virEventAddTimeout(-1, self._ring, None)
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, name="libvirt-events", daemon=True)
            self._thread.start()

    def release(self) -> None:
        """Stop it after the last holder."""
        with self._lock:
            self._holders -= 1
            if self._holders or self._thread is None:
                return
            self._stop.set()
            libvirt.virEventUpdateTimeout(self._alarm, 0)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while not self._stop.is_set():
            libvirt.virEventRunDefaultImpl()

    def _ring(self, timer: int, _opaque: Any) -> None:
        """Wake the loop once, so that it sees that it shall stop."""
        libvirt.virEventUpdateTimeout(timer, -1)


def _silent(_context: Any, _error: Any) -> None:
    """Drop libvirt's copy of an error that it raises as well."""


LOOP = EventLoop()
