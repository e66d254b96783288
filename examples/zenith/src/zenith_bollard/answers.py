"""What the array's answers mean to Bollard."""

import contextlib
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from bollard.core.spi import (
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    Outcome,
    Snapshot,
    Unavailable,
    Volume,
)
from bollard.transfer_objects.ids import SnapshotId, VolumeId

OWNER = {"owner": "bollard"}


@contextlib.contextmanager
def begun() -> Iterator[None]:
    """Say of what ends in here that it may have been done: an earlier request of the call was sent."""
    try:
        yield
    except (DeadlineExceeded, Unavailable) as error:
        error.outcome = Outcome.UNKNOWN
        raise


def the_one(found: list[Any], what: str) -> Any:
    """Return the object of ours among what the array found by name."""
    mine = [item for item in found if ours(item)]
    if not mine:
        raise NotFound(f"there is no {what}")
    return mine[0]


def ours(item: Any) -> bool:
    """Tell whether an object bears our mark."""
    return bool(item["metadata"].get("owner") == OWNER["owner"])


def page_size(limit: int) -> int:
    """Return how many objects to ask the array for."""
    if limit < 1:
        raise InvalidArgument(f"limit must be at least 1, got {limit}")
    return min(limit, 1000)


def volume_of(item: Any) -> Volume:
    """Return the array's volume as Bollard sees it."""
    return Volume(
        id=VolumeId(item["name"]),
        size=item["size"],
        name=item["metadata"]["name"],
        allocated=item["allocated_bytes"],
        identity=item["serial"],
    )


def snapshot_of(item: Any) -> Snapshot:
    """Return the array's snapshot as Bollard sees it."""
    return Snapshot(
        id=SnapshotId(item["name"]),
        volume=VolumeId(item["metadata"]["volume"]),
        size=item["size"],
        created=datetime.fromisoformat(item["created_at"]),
    )
