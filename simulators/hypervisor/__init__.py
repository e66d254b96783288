"""A simulated hypervisor cluster: ``python -m bollard.simulators.hypervisor --state DIR``."""

from .defects import HypervisorDefects
from .pattern import BLOCK, Block, Cut, examine
from .simulator import HypervisorSimulator

__all__ = ["BLOCK", "Block", "Cut", "HypervisorDefects", "HypervisorSimulator", "examine"]
