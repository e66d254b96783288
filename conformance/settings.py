"""What a run is given: the driver, its options, and where archive checks may write.

driver = "acme"                       # or --driver
[options]                             # the driver's own, see `bollard drivers --options acme`
url = "https://array.test:8443"
[store]                               # optional: a temporary directory otherwise
driver = "s3"
options = { bucket = "conformance" }
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.spi import InvalidArgument
from ..transfer_objects.errors import did_you_mean

_KEYS = ("driver", "options", "store")


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteSettings:
    """One run's settings."""

    driver: str
    options: Mapping[str, Any] = field(default_factory=dict)
    store_driver: str = ""
    store_options: Mapping[str, Any] = field(default_factory=dict)


def load_settings(driver: str, path: Path | None) -> SuiteSettings:
    """Read a vendor's configuration file; `driver` wins over the file's.

    Raises:
        InvalidArgument: naming the key and the rule.
    """
    raw: Mapping[str, Any] = {}
    if path is not None:
        try:
            raw = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise InvalidArgument(f"cannot read the configuration {path}: {error}") from error
    for key in raw:
        if key not in _KEYS:
            raise InvalidArgument(f"{path}: key {key!r} is unknown; {did_you_mean(key, _KEYS)}")
    chosen = driver or raw.get("driver", "")
    if not chosen:
        raise InvalidArgument('name a driver: --driver NAME, or driver = "NAME" in the configuration')
    store = raw.get("store", {})
    return SuiteSettings(
        driver=chosen,
        options=raw.get("options", {}),
        store_driver=store.get("driver", ""),
        store_options=store.get("options", {}),
    )
