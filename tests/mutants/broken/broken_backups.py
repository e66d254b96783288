"""A broken driver of the simulated hypervisor, for what no cluster can do wrong."""

from __future__ import annotations

from collections.abc import Mapping

from bollard.core.spi import Call, Capability
from bollard.drivers.hypervisor.driver import SimulatedHypervisorDriver


class BackupsUnavailableButTaken(SimulatedHypervisorDriver):
    """Says that it has no backups, and begins them."""

    def unavailable(self, call: Call) -> Mapping[Capability, str]:
        """See `Driver.unavailable`."""
        return {**super().unavailable(call), Capability.BACKUPS: "too old"}
