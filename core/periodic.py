"""Something that a server does by itself, again and again, in a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

_log = logging.getLogger("bollard.periodic")
_GRACE = 10.0


class Periodic:
    """Calls `step` at once, and again after the seconds that it returns, or when woken.

    Use it in a `with` block.

    Args:
        name: of the thread, and for the log.
        step: returns the seconds until the next time; None: not before it is woken.
        least: seconds between two calls, however often it is woken.
        after_bug: seconds until the next call when one failed by a bug.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], float | None],
        *,
        least: float = 1.0,
        after_bug: float = 300.0,
    ) -> None:
        self._name, self._step = name, step
        self._least, self._after_bug = least, after_bug
        self._woken, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Periodic:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def start(self) -> None:
        """Begin; once."""
        self._thread.start()

    def wake(self) -> None:
        """Call it soon; if it is under way, once more after that. From any thread."""
        self._woken.set()

    def close(self) -> bool:
        """Stop; False: a call that is under way did not end within some seconds."""
        self._stop.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(_GRACE)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._woken.clear()
            if self._stop.is_set():  # `close` set both, and we have cleared one
                return
            pause = self._call()
            self._stop.wait(self._least)
            self._woken.wait(pause)

    def _call(self) -> float | None:
        try:
            return self._step()
        except Exception:  # noqa: BLE001 - the edge: one bad round must not end all others unnoticed
            _log.exception("%s failed by a bug", self._name)
            return self._after_bug
