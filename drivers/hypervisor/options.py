"""Options of the driver."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.spi import option


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedHypervisorOptions:
    """Where the simulated cluster is; it has no accounts and no TLS."""

    url: str = option(help="Where the cluster answers, without a path", example="http://127.0.0.1:8080")
    timeout: float = option(help="Seconds for one request", default=60.0, minimum=0.1, maximum=3600.0)
