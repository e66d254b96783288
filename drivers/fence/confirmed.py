"""When a host counts as off, for every fence driver.

    command ─▶ refused? ─▶ read ─▶ not as wanted ─▶ Unsupported, unknown
       │                     └──▶ as wanted ──────┐
       ▼ ok                                       ▼
    read ... until as wanted ─▶ wait `confirm_after` ─▶ read ─▶ as wanted ─▶ return
       │ `settle` is over                                └──▶ not ─▶ Internal, unknown
       └──▶ Internal, unknown

Each arrow to the BMC is a session of its own, in a process of its own: nothing that one of them
remembers can answer for the host. What says neither ON nor OFF ("PoweringOff") is not OFF.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TypeVar

from ...core.spi import Call, FenceDriver, Internal, Outcome, PowerState, StorageError, Unsupported, option
from ...transfer_objects.secret import Secret
from .wire import REFUSED

_POLL = 0.5  # seconds between two readings while a host goes down
READ = "read"


@dataclass(frozen=True, slots=True, kw_only=True)
class FenceOptions:
    """What every fence driver is told."""

    username: str = option(
        help="Who we are on the BMC; it must be allowed to switch the power", example="fence"
    )
    password: Secret = option(help="Its password", secret=True)
    timeout: float = option(
        help="Seconds for one exchange with the BMC", default=20.0, minimum=0.5, maximum=600.0
    )
    settle: float = option(
        help="Seconds in which the host must be off (or on) after the BMC said yes",
        default=30.0,
        minimum=0.0,
        maximum=600.0,
    )
    confirm_after: float = option(
        help="Seconds between the two readings that must agree: a host that comes back sooner is not fenced",
        default=1.0,
        minimum=0.0,
        maximum=60.0,
    )


O = TypeVar("O", bound=FenceOptions)  # noqa: E741 - as in core/spi/driver.py


class ConfirmedFence(FenceDriver[O]):
    """Switches, and believes the second reading only."""

    @abstractmethod
    def _ask(self, act: str, call: Call) -> str:
        """Talk to the BMC once, in a session of its own.

        Args:
            act: READ, "on" or "off".

        Returns:
            The chassis power in lower case for READ; DONE or REFUSED for the others.
        """

    def close(self) -> None:
        """Nothing is held between two exchanges."""

    def power_state(self, call: Call) -> PowerState:
        """See `FenceDriver.power_state`. Whatever is not OFF may run, and is told as ON."""
        return PowerState.OFF if self._ask(READ, call) == PowerState.OFF else PowerState.ON

    def power_off(self, call: Call) -> None:
        """See `FenceDriver.power_off`.

        Raises:
            Unauthenticated, PermissionDenied, Busy: not applied, unless it came with a reading.
            Unavailable, DeadlineExceeded: not applied before the command left, unknown from then on.
            Unsupported: the BMC refuses, and the host reads ON.
            Internal: the BMC says one thing and does another; the host must be taken as alive.
        """
        self._switch(PowerState.OFF, call)

    def power_on(self, call: Call) -> None:
        """See `FenceDriver.power_on`; raises what `power_off` raises."""
        self._switch(PowerState.ON, call)

    def _switch(self, wanted: PowerState, call: Call) -> None:
        # Sent even to a host that reads OFF: it may be in the middle of a power cycle.
        said = self._ask(wanted, call)
        try:
            # Even a refusal may be the answer to a repeat, when the first request's reply was lost.
            if said == REFUSED and self._ask(READ, call) != wanted:
                raise Unsupported(f"the BMC refuses to switch the power {wanted}")
            self._confirm(wanted, call)
        except StorageError as error:
            # A reading knows nothing of the command that went before it.
            raise type(error)(error.message, outcome=Outcome.UNKNOWN) from error

    def _confirm(self, wanted: PowerState, call: Call) -> None:
        self._reach(wanted, call)
        self._wait(self.options.confirm_after, call)
        if (again := self._ask(READ, call)) != wanted:
            raise Internal(f"the BMC said {wanted} and at the second reading {again}")

    def _reach(self, wanted: PowerState, call: Call) -> None:
        until = call.clock() + self.options.settle
        while (found := self._ask(READ, call)) != wanted:
            if call.clock() >= until:
                patience = f"{self.options.settle:g} s later"
                raise Internal(f"the BMC agreed to switch the power {wanted}, and {patience} it is {found}")
            self._wait(_POLL, call)

    def _wait(self, seconds: float, call: Call) -> None:
        call.cancel.wait(call.remaining(seconds))
        call.check()
