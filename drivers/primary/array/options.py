"""Options of the driver."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ....core.spi import option
from ....transfer_objects.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayOptions:
    """Where the array is, who we are there, and which pool is ours."""

    url: str = option(help="Where the array answers, without a path", example="https://array-1:8443")
    standby_url: str | None = option(
        help="Where the array's other controller answers, asked when the first one does not", default=None
    )
    username: str = option(help="Who we are on the array", example="bollard")
    password: Secret = option(help="Its password", secret=True)
    pool: str = option(help="The pool that holds our volumes", example="pool-a")
    owner: str = option(
        help="Marks our objects on the array; give each orchestrator its own (a-z, 0-9; at most 16)",
        default="bollard",
    )
    ca: Path | None = option(help="PEM file of the authority to trust instead of the system's", default=None)
    allow_http: bool = option(help="Accept a url without TLS (laboratories only)", default=False)
    timeout: float = option(help="Seconds for one request", default=30.0, minimum=0.1, maximum=3600.0)
