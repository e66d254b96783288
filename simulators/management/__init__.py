"""A management server as CloudStack's agents meet it: TLS, frames, startup, pings, commands; and defects."""

from .defects import ManagementDefects
from .simulator import Disconnected, ManagementSimulator

__all__ = ["Disconnected", "ManagementDefects", "ManagementSimulator"]
