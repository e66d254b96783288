"""Where a host finds an image, from what the agent says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....core.spi import RbdLocation
from ....transfer_objects.secret import Secret
from .options import RbdOptions


def location_of(options: RbdOptions, shown: Mapping[str, Any], *, read_only: bool) -> RbdLocation:
    """Return the location."""
    return RbdLocation(
        monitors=options.monitors,
        pool=options.pool,
        image=shown["image"],
        snapshot=shown.get("snapshot", ""),
        user=shown["user"],
        key=Secret(shown["key"]),
        size=shown["size"],
        read_only=read_only,
    )
