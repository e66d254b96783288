"""README and restore scripts in the root of the store: for the day when there is no Bollard.

They are replaced by newer ones only: two Bollards of different age at one store do not undo each other's.
"""

from __future__ import annotations

import re
from importlib import resources

from ..spi.call import Call
from ..spi.image_store import Body
from .store import Store, head_size, read_all

_FILES = {"README.txt": "emergency.txt", "RESTORE.sh": "emergency.sh", "RESTORE.py": "emergency.py"}


_VERSION = re.compile(rb"Version (\d+) of the\s+rescue files")


def publish_rescue(store: Store, call: Call) -> None:
    """Put them there, unless they or newer ones are."""
    for name, resource in _FILES.items():
        data = (resources.files(__package__) / resource).read_bytes()
        size = head_size(store, name, call)
        if size is None or (size != len(data) and _version(read_all(store, name, call)) < _version(data)):
            store.put(name, Body.of(data), call)


def _version(data: bytes) -> int:
    """Return the number in a rescue file; those of the first version have none."""
    match = _VERSION.search(data)
    return int(match[1]) if match else 1
