"""The driver, put together.

IscsiPool                    pool.py          open, capacity
└── IscsiVolumes             volumes.py       create, copy, resize, adopt
    ├── IscsiSnapshots       snapshots.py     cut, revert, changed blocks
    │   └── IscsiVmSnapshots vm_snapshots.py  several volumes at one instant
    ├── IscsiTemplates       templates.py     seeds
    └── IscsiAccess          access.py        grants, CHAP

array.py  requests       ssh.py  the connection       agent/  what does it on the array       install.py
"""

from __future__ import annotations

from .access import IscsiAccess
from .templates import IscsiTemplates
from .vm_snapshots import IscsiVmSnapshots


class IscsiSshDriver(IscsiVmSnapshots, IscsiTemplates, IscsiAccess):
    """A Linux machine with tgtd and a reflink file system, administered over SSH."""

    spi = (1, 0)
