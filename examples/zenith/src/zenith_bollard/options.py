"""What an operator configures; Bollard makes validation, schema and a template of it."""

from dataclasses import dataclass
from pathlib import Path

from bollard.core import spi
from bollard.transfer_objects.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class ZenithOptions:
    """Show them with `bollard drivers --options zenith`."""

    url: str = spi.option(help="Where the storage answers", example="https://storage.test:8443")
    username: str = spi.option(help="Who we are there", example="bollard")
    password: Secret = spi.option(help="The user's password", secret=True)
    pool: str = spi.option(help="Name of the pool that volumes are made in", example="pool-a")
    ca: Path | None = spi.option(help="PEM file of a private authority of its certificate", default=None)
    timeout: float = spi.option(help="Seconds for one request", default=30.0, minimum=0.1, maximum=3600.0)
