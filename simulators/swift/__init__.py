"""A simulated OpenStack Swift: ``python -m bollard.simulators.swift --state DIR``."""

from .defects import SwiftDefects
from .simulator import SwiftSimulator

__all__ = ["SwiftDefects", "SwiftSimulator"]
