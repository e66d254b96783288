"""Identifiers: distinct types for mypy, plain strings at run time, one rule for all of them.

Core generates ids; a driver maps them to whatever names its array allows. The alphabet is the
intersection of what file names, LUN names, S3 keys, Swift objects and XML attributes accept
without escaping, so an id never needs quoting anywhere.
"""

from __future__ import annotations

import re
import uuid
from typing import NewType

VolumeId = NewType("VolumeId", str)
SnapshotId = NewType("SnapshotId", str)
TemplateId = NewType("TemplateId", str)
VmSnapshotId = NewType("VmSnapshotId", str)
StoreId = NewType("StoreId", str)
HostId = NewType("HostId", str)
VmId = NewType("VmId", str)

ID_RULE = "1 to 64 characters of a-z, 0-9 and '-', starting and ending with a letter or digit"
_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")


def is_valid_id(text: str) -> bool:
    """Tell whether `text` may serve as an id (see `ID_RULE`)."""
    return _ID.fullmatch(text) is not None


def new_id(prefix: str = "") -> str:
    """Make a fresh random id, e.g. `vol-4f0c…`; `prefix` helps a human reading an array's list."""
    token = uuid.uuid4().hex
    return f"{prefix}-{token}" if prefix else token
