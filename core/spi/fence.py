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
    """Power control of one host through its BMC."""

    @abstractmethod
    def power_state(self, call: Call) -> PowerState:
        """Read the chassis power from the BMC, never from memory."""

    @abstractmethod
    def power_off(self, call: Call) -> None:
        """Cut the power. [fence.confirmed] It MUST return only after a second, separate reading
        said OFF; anything else is an error, and the host MUST be taken as alive.
        """

    @abstractmethod
    def power_on(self, call: Call) -> None:
        """Switch on; confirmed by a reading like `power_off`."""
