"""What a run is given: the driver, its options, and where archive checks may write.

driver = "acme"                       # or --driver
test_pool = true                      # "there is nothing in it that matters": nothing is opened without it
disruptive = true                     # the backend may be restarted and filled (tier disruptive)
[options]                             # the driver's own, see `bollard drivers --options acme`
url = "https://array.test:8443"
[store]                               # optional: a temporary directory otherwise
driver = "s3"
options = { bucket = "conformance" }
[backend]                             # optional: where fault checks put their proxy
address = "url"                       # the option that holds the backend's address
ca = "ca"                             # the option that holds the file of its certificate authority
[hypervisor]                          # for hypervisor drivers
host = "h1"
vm = "test-vm"
stopped_vm = "test-vm-off"
objects = "/srv/conformance"
[fence]                               # for fence drivers, optional
patience = 60                         # seconds that one call may take
[[known_fail]]                        # failures that are known; a certificate needs none
id = "vol.list_complete"
reason = "the array lists only 100 volumes"
ticket = "ACME-123"
expires = 2027-01-31
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import date, datetime
from pathlib import Path
from typing import Any, TypeVar

from ..core.spi import InvalidArgument
from ..transfer_objects.errors import did_you_mean

T = TypeVar("T")

_TABLES: Mapping[str, type] = {
    "driver": str,
    "test_pool": bool,
    "disruptive": bool,
    "options": dict,
    "store": dict,
    "backend": dict,
    "hypervisor": dict,
    "fence": dict,
    "known_fail": list,
}
_WORDS = {str: "a string", bool: "true or false, without quotes", dict: "a table", list: "a list of tables"}


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFailure:
    """A failure that the vendor knows of.

    Attributes:
        id: of the check.
        expires: the last day on which it is only a known failure.
    """

    id: str
    reason: str
    ticket: str
    expires: date


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendSettings:
    """How fault checks come between the driver and its backend; names of options."""

    address: str = ""
    ca: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteSettings:
    """One run's settings.

    Attributes:
        test_pool: the vendor's word that pool and store are made for tests.
        disruptive: the vendor's consent to restart and to fill the backend.
        config: the file, if there is one.
        seed: what all random choices of the run follow from.
        hypervisor: what a hypervisor driver is tested with, see `host_lab.HostSettings`.
        fence: how a fence driver is tested, see `fence_lab.FenceSettings`.
        in_process: the driver runs in the suite's own process, for debuggers; crash checks cannot run.
    """

    driver: str
    test_pool: bool = False
    disruptive: bool = False
    config: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    store_driver: str = ""
    store_options: Mapping[str, Any] = field(default_factory=dict)
    backend: BackendSettings = BackendSettings()
    hypervisor: Mapping[str, Any] = field(default_factory=dict)
    fence: Mapping[str, Any] = field(default_factory=dict)
    known: Sequence[KnownFailure] = ()
    seed: int = 0
    in_process: bool = False

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
    _check(raw, path)
    chosen = driver or raw.get("driver", default)
    if not chosen:
        raise InvalidArgument('name a driver: --driver NAME, or driver = "NAME" in the configuration')
    store = raw.get("store", {})
    return SuiteSettings(
        driver=chosen,
        test_pool=raw.get("test_pool", False),
        disruptive=raw.get("disruptive", False),
        config=path,
        options=raw.get("options", {}),
        store_driver=store.get("driver", ""),
        store_options=store.get("options", {}),
        backend=_table(BackendSettings, raw.get("backend", {}), f"{path}: [backend]"),
        hypervisor=raw.get("hypervisor", {}),
        fence=raw.get("fence", {}),
        known=tuple(_known(entry, f"{path}: [[known_fail]]") for entry in raw.get("known_fail", ())),
    )


def _check(raw: Mapping[str, Any], path: Path | None) -> None:
    for key, value in raw.items():
        if key not in _TABLES:
            raise InvalidArgument(f"{path}: key {key!r} is unknown; {did_you_mean(key, list(_TABLES))}")
        if type(value) is not _TABLES[key]:
            raise InvalidArgument(f"{path}: {key} must be {_WORDS[_TABLES[key]]}")


def _table(cls: type[T], raw: object, where: str) -> T:
    """Build a dataclass of strings (and dates) from a table; every key must be known."""
    if not isinstance(raw, dict):
        raise InvalidArgument(f"{where} must be a table")
    kinds = {f.name: date if f.type in ("date", date) else str for f in fields(cls)}  # type: ignore[arg-type] # each is a dataclass
    for key, value in raw.items():
        if key not in kinds:
            raise InvalidArgument(f"{where}: key {key!r} is unknown; {did_you_mean(key, list(kinds))}")
        if type(value) is not kinds[key]:
            word = "a date (2027-01-31), without quotes" if kinds[key] is date else "a string"
            raise InvalidArgument(f"{where}: {key} must be {word}")
    return cls(**raw)


def _known(raw: object, where: str) -> KnownFailure:
    missing = [f.name for f in fields(KnownFailure) if not (isinstance(raw, dict) and raw.get(f.name))]
    if missing:
        raise InvalidArgument(f"{where} needs {', '.join(missing)}: who forgets why, forgets to look again")
    return _table(KnownFailure, raw, where)


def expired(known: KnownFailure, today: date | None = None) -> bool:
    """Return whether a known failure counts as a failure again."""
    return (today or datetime.now().astimezone().date()) > known.expires
