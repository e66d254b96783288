"""A Linux iSCSI array: tgtd and reflinks on XFS, administered over SSH."""

from .driver import IscsiSshDriver
from .options import IscsiSshOptions

__all__ = ["IscsiSshDriver", "IscsiSshOptions"]
