"""A baseboard management controller: IPMI 2.0 over LAN (RMCP+) on a UDP port of 127.0.0.1.

datagram ─▶ rmcp.py (frames, seals) ─▶ login.py (RAKP 1-4) ─▶ commands.py ─▶ chassis.py ─▶ your hook
                                        defects.py strikes at each of them
"""

from .chassis import Chassis
from .defects import BmcDefects
from .login import User
from .simulator import BmcSimulator

__all__ = ["BmcDefects", "BmcSimulator", "Chassis", "User"]
