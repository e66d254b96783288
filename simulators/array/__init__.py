"""An all-flash array: REST for control, NBD for data, durable state, defects on command.

docs/simulators-array.md is the reference for clients; ``python -m bollard.simulators.array --help`` runs it.
"""

from .access import export_name
from .defects import Defect, Defects
from .simulator import ArraySimulator

__all__ = ["ArraySimulator", "Defect", "Defects", "export_name"]
