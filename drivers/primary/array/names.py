"""Our ids on the array: injective, within its limit, and telling whose they are.

    web-1                       ->  bollard.v.web-1
    (an id that does not fit)   ->  bollard.v.head-of-the-id_0123456789abcdef0123456789abcdef

No id contains '.' or '_', so a shortened name never equals a whole one; two shortened ones are equal
if the first 128 bits of their SHA-256 are. The id itself stands in the object's metadata.
"""

from __future__ import annotations

import hashlib
import re
from enum import StrEnum

from ....core.spi import InvalidArgument
from ....transfer_objects.ids import SnapshotId, TemplateId, VmSnapshotId, VolumeId

MAX_NAME = 64  # docs/simulators-array.md, Volumes
_OWNER = re.compile(r"[a-z0-9]{1,16}")
_DIGEST = 32
_SEED = re.compile(r"template-[0-9a-f]{40}")
_MEMBER = re.compile(r"vms-([0-9a-f]{24})-([0-9a-f]{24})")


class Kind(StrEnum):
    """What an object of ours is; the letter stands in its name."""

    VOLUME = "v"
    TEMPLATE = "t"
    SNAPSHOT = "s"
    GROUP = "g"


def check_owner(owner: str) -> None:
    """Refuse an owner that would not fit into names."""
    if not _OWNER.fullmatch(owner):
        raise InvalidArgument(f"option 'owner' must be 1 to 16 of a-z and 0-9, got {owner!r}")


def array_name(owner: str, kind: Kind, object_id: str) -> str:
    """Return the name that an object has on the array."""
    whole = f"{owner}.{kind}.{object_id}"
    if len(whole) <= MAX_NAME:
        return whole
    head = whole[: MAX_NAME - _DIGEST - 1]
    return f"{head}_{_short_digest(object_id, _DIGEST)}"


# -- volumes that are the seeds of templates --------------------------------------------------------------


def seed_id(template: TemplateId) -> VolumeId:
    """Return the volume id of a template's seed."""
    return VolumeId(f"template-{_short_digest(template, 40)}")


def volume_kind(volume: VolumeId) -> Kind:
    """Tell a volume's id from a seed's."""
    return Kind.TEMPLATE if _SEED.fullmatch(volume) else Kind.VOLUME


# -- snapshots that are members of a VM snapshot ----------------------------------------------------------
#
# The array gives all members of a group one name, so a member's id is made of both:
#
#     vms - digest of the VM snapshot's id - digest of the array's id of the volume


def group_key(snapshot: VmSnapshotId) -> str:
    """Return what stands for a VM snapshot in names."""
    return _short_digest(snapshot, 24)


def member_id(group: str, array_volume: str) -> SnapshotId:
    """Return the snapshot id of a group's member."""
    return SnapshotId(f"vms-{group}-{_short_digest(array_volume, 24)}")


def group_of_member(snapshot: SnapshotId) -> str | None:
    """Return the group key if this is a member's id."""
    found = _MEMBER.fullmatch(snapshot)
    return found[1] if found else None


def _short_digest(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:digits]
