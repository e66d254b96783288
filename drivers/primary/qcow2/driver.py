"""The qcow2 driver: volumes as files in a directory that hosts mount.

    VolumeFiles      volumes.py      create, clone, resize, list, locate, capacity
    ├── SnapshotFiles  snapshots.py  full copies, revert by rename, volume from snapshot
    ├── TemplateFiles  templates.py  seeds
    └── AdoptedFiles   adoption.py   foreign files in and out

No image in a pool has a backing file: each copy is complete, and shares blocks with its source where
the file system does that (XFS, btrfs). So nothing depends on anything, and a snapshot can be read as
it stands.
"""

from __future__ import annotations

from .adoption import AdoptedFiles
from .snapshots import SnapshotFiles
from .templates import TemplateFiles


class Qcow2Driver(SnapshotFiles, TemplateFiles, AdoptedFiles):
    """A pool in a local directory, on NFS or on a shared mount point, for qcow2 or raw volumes."""

    spi = (1, 0)
