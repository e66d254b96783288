"""Fencing: making sure that a host is dead before its volumes are given away.

A fence that cannot read "off" back is not one (rule 14 of the architecture).
"""

from __future__ import annotations

from abc import abstractmethod
from enum import StrEnum
from typing import TypeVar

from .call import Call
from .driver import Driver

O = TypeVar("O")  # noqa: E741 - as in driver.py


class PowerState(StrEnum):
    """Chassis power as the BMC reports it."""

    ON = "on"
    OFF = "off"


class FenceDriver(Driver[O]):
    """Power control of one host through its BMC.

    [fence.login] A user or password that the BMC does not accept MUST be an error of which nothing was
    applied; a wrong password is `Unauthenticated`. [fence.unreachable] A BMC that cannot be asked MUST
    be `Unavailable` or `DeadlineExceeded`: that it has no power either is a guess. [fence.outcome] An
    error MUST be "not applied" only if no power command left, or the BMC said that it did nothing.
    [fence.sessions] What a call holds on the BMC MUST be given back when it ends: few have more than
    four sessions.
    """

    @abstractmethod
    def power_state(self, call: Call) -> PowerState:
        """Read the chassis power. [fence.read] It MUST come from the BMC, never from memory."""

    @abstractmethod
    def power_off(self, call: Call) -> None:
        """Cut the power. [fence.confirmed] It MUST return only after a second, separate reading
        said OFF; anything else is an error, and the host MUST be taken as alive. [fence.again] What
        is off MUST be fenced again, and what is on switched on again, with success.
        """

    @abstractmethod
    def power_on(self, call: Call) -> None:
        """Switch on. [fence.on] It MUST be confirmed by a second reading, like `power_off`."""
