"""The host's power, and what follows from it outside of the simulator."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from .defects import BmcDefects

Hook = Callable[[bool], None]


class Chassis:
    """Power that changes at once, late, not at all or back, as the defects say.

    A hook ties it to something that can die. It is called with True for "on" and False for "off" whenever
    power changes, before the state says so and before the BMC answers: who reads OFF reads it of something
    dead. What is due later happens when somebody looks next.

    Args:
        defects: looked at with each request.
        hook: runs in the BMC's thread; a BMC that is busy with it answers nobody.
        on: the power at the start; the hook is not called for it.
        clock: seconds; decides when a late change is due.
    """

    def __init__(
        self,
        defects: BmcDefects,
        hook: Hook | None = None,
        *,
        on: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._defects = defects
        self._hook = hook
        self._on = on
        self._clock = clock
        self._due: list[tuple[float, bool]] = []
        self._lock = threading.Lock()
        self.log: list[str] = []

    @property
    def on(self) -> bool:
        """Whether the host runs, whatever the BMC says about it."""
        with self._lock:
            self._happen()
            return self._on

    def reading(self) -> bool:
        """What the BMC tells; noted in `log`."""
        told = self.on and not self._defects.take("says_off")
        self.log.append(f"read {'on' if told else 'off'}")
        return told

    def switch(self, *, on: bool) -> None:
        """Obey a power command, or agree and do otherwise; noted in `log`."""
        self.log.append(f"power {'on' if on else 'off'}")
        if self._defects.deaf:
            return
        with self._lock:
            when = self._clock() + self._defects.late
            self._due = [(when, on)]
            if not on and self._defects.comes_back:
                self._due.append((when + self._defects.comes_back, True))
            self._happen()

    def _happen(self) -> None:
        while self._due and self._due[0][0] <= self._clock():
            _, on = self._due.pop(0)
            if on is not self._on and self._hook is not None:
                self._hook(on)
            self._on = on
