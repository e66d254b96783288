"""The array driver, put together.

ArrayPool            pool.py          open, find, wait for jobs
└── ArrayVolumes     volumes.py       create, clone, resize, QoS
├── ArraySnapshots   snapshots.py     cut, revert, changed blocks
│   └── ArrayVmSnapshots vm_snapshots.py  several volumes at one instant
├── ArrayTemplates   templates.py     seeds
├── ArrayAdoption    adoption.py      foreign volumes in and out
└── ArrayAccess      access.py        grants, CHAP, the proof of a revoke

client.py  session, deadlines    answers.py  errors    objects.py  typed JSON    names.py  ids
"""

from __future__ import annotations

from .access import ArrayAccess
from .adoption import ArrayAdoption
from .templates import ArrayTemplates
from .vm_snapshots import ArrayVmSnapshots


class ArrayDriver(ArrayVmSnapshots, ArrayTemplates, ArrayAdoption, ArrayAccess):
    """An all-flash array that speaks the REST API of docs/simulators-array.md."""

    spi = (1, 0)
