"""What a run is given: the driver, its options, and where archive checks may write.

driver = "acme"                       # or --driver
test_pool = true                      # "there is nothing in it that matters": nothing is opened without it
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

_KEYS = ("driver", "test_pool", "options", "store")


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteSettings:
    """One run's settings.

    Attributes:
        test_pool: the vendor's word that pool and store are made for tests.
        config: the file, if there is one.
    """

    driver: str
    test_pool: bool = False
    config: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    store_driver: str = ""
    store_options: Mapping[str, Any] = field(default_factory=dict)

    def require_test_pool(self) -> None:
        """Refuse to open anything that is not marked for tests.

        Raises:
            InvalidArgument: saying what to add, and why.
        """
        if not self.test_pool:
            where = f"at the top of {self.config}" if self.config else "in a configuration file (--config)"
            raise InvalidArgument(
                f"this pool or store is not marked for tests: write `test_pool = true` {where}. The suite "
                "makes and deletes volumes; a defect of the driver under test may hit what else is in there"
            )


def load_settings(driver: str, path: Path | None, *, default: str = "") -> SuiteSettings:
    """Read a vendor's configuration file; `driver` wins over the file's, which wins over `default`.

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
    chosen = driver or raw.get("driver", default)
    if not chosen:
        raise InvalidArgument('name a driver: --driver NAME, or driver = "NAME" in the configuration')
    marked = raw.get("test_pool", False)
    if not isinstance(marked, bool):
        raise InvalidArgument(f"{path}: test_pool must be true or false, without quotes")
    store = raw.get("store", {})
    return SuiteSettings(
        driver=chosen,
        test_pool=marked,
        config=path,
        options=raw.get("options", {}),
        store_driver=store.get("driver", ""),
        store_options=store.get("options", {}),
    )
