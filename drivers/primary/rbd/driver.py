"""The driver, put together.

RbdPool                    pool.py          open, capacity
└── RbdVolumes             volumes.py       create, clone, resize, adopt
    ├── RbdSnapshots       snapshots.py     cut, read, revert, changed blocks
    ├── RbdTemplates       templates.py     seeds
    └── RbdAccess          access.py        grants

agents.py  the processes that are asked       agent/  what they do
"""

from __future__ import annotations

from .access import RbdAccess
from .snapshots import RbdSnapshots
from .templates import RbdTemplates


class RbdDriver(RbdSnapshots, RbdTemplates, RbdAccess):
    """A pool of a Ceph cluster."""

    spi = (1, 1)
