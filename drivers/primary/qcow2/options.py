"""Options of the driver."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ....core.spi import option
from .shelf import FORMATS


@dataclass(frozen=True, slots=True, kw_only=True)
class Qcow2Options:
    """Where the pool is and what new volumes are."""

    path: Path = option(help="The directory that is the pool", example="/mnt/pool")
    format: str = option(help="Format of new volumes", default="qcow2", choices=FORMATS)
    must_be_mounted: bool = option(help="Refuse to work unless the path is a mount point", default=False)
