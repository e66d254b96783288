"""What a fence check works with: the opened driver, a host whose power may be cut, and a way to the BMC.

    suite ── power_off, power_on ──> driver ──> BMC ──> the host
      └───── power_state ─────────> a second instance of the driver: who switches does not judge itself

Before each check the host is on, and after it again: `power_off` is in the ledger (`recording.py`), and the
audit switches the host on (`clean.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Self

from ..core.spi import Busy, Call, FenceDriver, InvalidArgument, PowerState
from ..transfer_objects.errors import did_you_mean
from .fence_gate import Gate
from .lab import Notes, must
from .settings import SuiteSettings

_PATIENCE = 60.0  # seconds
_POLL = 0.2  # seconds between two tries while the BMC is busy


@dataclass(frozen=True, slots=True, kw_only=True)
class FenceSettings:
    """The table [fence] of the configuration.

    Attributes:
        patience: seconds that one call of the driver may take.
    """

    patience: float = _PATIENCE

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Self:
        """Read the table.

        Raises:
            InvalidArgument: naming the key and the rule.
        """
        for key in table:
            if key != "patience":
                raise InvalidArgument(f"[fence]: key {key!r} is unknown; {did_you_mean(key, ['patience'])}")
        patience = table.get("patience", _PATIENCE)
        if type(patience) not in (int, float) or patience <= 0:
            raise InvalidArgument("[fence]: patience is a number of seconds above 0")
        return cls(patience=patience)


@dataclass(slots=True, kw_only=True)
class FenceLab:
    """One check's workplace on a host.

    Attributes:
        driver: under test.
        witness: another instance of it, which reads what has become of the host.
        suite: the run's settings, for what leads elsewhere than to the BMC (`fence_gate.nobody`).
        second: opens it once more, in a driver host of its own; with other options if given.
        gated: opens it once more with a gate between it and the BMC; yields the gate and the driver.
    """

    driver: FenceDriver[Any]
    witness: FenceDriver[Any]
    settings: FenceSettings
    suite: SuiteSettings
    second: Callable[..., AbstractContextManager[FenceDriver[Any]]]
    gated: Callable[[], AbstractContextManager[tuple[Gate, FenceDriver[Any]]]]
    notes: Notes

    def call(self) -> Call:
        """Return a call with a deadline."""
        return Call.within(self.settings.patience)

    def state(self) -> PowerState:
        """Return what the witness reads; it waits for a session where all are taken."""
        until = time.monotonic() + self.settings.patience
        while True:
            try:
                return self.witness.power_state(self.call())
            except Busy:
                if time.monotonic() >= until:
                    raise
            time.sleep(_POLL)

    def is_on(self) -> None:
        """See that the host is on; a check begins with it."""
        if self.state() is PowerState.OFF:
            self.witness.power_on(self.call())
            must(self.state() is PowerState.ON, "the host reads off after power_on returned")

    def stays(self, wanted: PowerState, after: str, seconds: float = 1.0) -> None:
        """See that the witness reads nothing else for so many seconds, and at least twice."""
        until = time.monotonic() + seconds
        for number in range(1, 1000):
            found = self.state()
            must(found is wanted, f"{after}, and the host reads {found} at reading {number}")
            if number > 1 and time.monotonic() >= until:
                return
