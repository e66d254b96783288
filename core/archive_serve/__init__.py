"""Archived snapshots as NBD exports: a guest boots from the archive, nothing is restored first.

store <── ArchiveSource <── SnapshotServer <──── QEMU, nbdcopy, qemu-img       read-only
                                  ^
                                  └── Overlay (a qcow2 file) <── QEMU     copy-on-write
"""

from .overlay import Overlay
from .server import SnapshotServer, listen, uri_of

__all__ = ["Overlay", "SnapshotServer", "listen", "uri_of"]
