"""What a run was made with: a verdict means little without the versions behind it."""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import dataclass

from ...core.spi import SPI_VERSION

# The contract's sentences and the checks' meaning. It grows when a verdict could change for a driver that did
# not; the suite's own version grows with every release.
SPEC_VERSION = "1.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Versions and the machine, as a reader of the report needs them.

    Attributes:
        suite: version of Bollard.
        spec: version of the contract that was tested.
        spi: version of the driver interface.
    """

    suite: str
    spec: str
    spi: str
    python: str
    platform: str


def environment() -> Environment:
    """Return the facts of this process."""
    return Environment(
        suite=importlib.metadata.version("bollard"),
        spec=SPEC_VERSION,
        spi=".".join(map(str, SPI_VERSION)),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        platform=platform.platform(),
    )
