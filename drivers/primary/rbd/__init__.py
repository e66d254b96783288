"""Ceph RBD: images of a pool, cephx users, the OSDs' blocklist."""

from .driver import RbdDriver
from .options import RbdOptions

__all__ = ["RbdDriver", "RbdOptions"]
