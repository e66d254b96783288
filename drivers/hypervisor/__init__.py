"""Hypervisors: hosts that attach volumes, know objects by introduction, and freeze guests."""

from .driver import SimulatedHypervisorDriver
from .options import SimulatedHypervisorOptions

__all__ = ["SimulatedHypervisorDriver", "SimulatedHypervisorOptions"]
