"""qcow2 and raw files in a directory: local, on NFS, or any other mounted file system."""

from .driver import Qcow2Driver
from .options import Qcow2Options

__all__ = ["Qcow2Driver", "Qcow2Options"]
