"""Drivers by name: entry points, loaded lazily, each failure told once and clearly.

    PluginError
    ├── UnknownDriver      no distribution offers the name
    ├── DuplicateDriver    two distributions offer it (pluggy skips, glance_store disables; we tell)
    ├── MissingDependency  the driver's module cannot be imported
    ├── SpiMismatch        it was written for an SPI that this Bollard does not speak
    └── BrokenDriver       not a driver class, or methods are missing

Entry points and nothing else: stevedore adds caching and namespaces that nobody here needs, and
pluggy is for hooks with many implementers.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .spi import (
    SPI_VERSION,
    Driver,
    FenceDriver,
    HostPrimaryDriver,
    HypervisorDriver,
    ImageStoreDriver,
    ManagedPrimaryDriver,
    options_schema,
)

GROUP = "bollard.drivers"

KINDS: dict[str, type[Any]] = {
    "managed": ManagedPrimaryDriver,
    "host": HostPrimaryDriver,
    "image-store": ImageStoreDriver,
    "hypervisor": HypervisorDriver,
    "fence": FenceDriver,
}

_BASES = tuple(KINDS.values())

AnyDriver = Driver[Any]
_registered: dict[str, type[AnyDriver]] = {}


class PluginError(Exception):
    """A driver cannot be loaded.

    Attributes:
        driver: its name.
        distribution: who offers it ("acme-bollard 1.2"), or "" if nobody does.
    """

    def __init__(self, driver: str, distribution: str, cause: str) -> None:
        origin = f" (from {distribution})" if distribution else ""
        super().__init__(f"driver {driver!r}{origin}: {cause}")
        self.driver = driver
        self.distribution = distribution


class UnknownDriver(PluginError):
    """No installed distribution offers this name."""


class DuplicateDriver(PluginError):
    """More than one distribution offers this name."""


class MissingDependency(PluginError):
    """The driver's module or something that it imports is not there."""


class SpiMismatch(PluginError):
    """The driver speaks another version of the interface."""


class BrokenDriver(PluginError):
    """The entry point does not lead to a complete driver class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverInfo:
    """One line of `bollard drivers`; `error` says why a driver cannot be loaded."""

    name: str
    distribution: str
    kind: str = ""
    spi: str = ""
    capabilities: tuple[str, ...] = ()
    error: str = ""


def _distribution(entry: importlib.metadata.EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "unknown distribution"


def _entries(name: str | None = None) -> list[importlib.metadata.EntryPoint]:
    found = importlib.metadata.entry_points(group=GROUP)
    chosen = found if name is None else found.select(name=name)
    # An editable install beside a build directory shows the same entry twice: one distribution
    # that says the same thing twice is no conflict.
    return list({(e.name, e.value, _distribution(e)): e for e in chosen}.values())


def driver_names() -> list[str]:
    """Return the names of all drivers, sorted, without importing any of them."""
    return sorted({e.name for e in _entries()} | set(_registered))


def load_driver(name: str) -> type[AnyDriver]:
    """Import and check one driver class.

    Raises:
        PluginError: one of its subclasses, naming distribution and cause.
    """
    if name in _registered:
        return check_driver(name, "registered in process", _registered[name])
    entries = _entries(name)
    if not entries:
        raise UnknownDriver(name, "", f"unknown; installed are: {', '.join(driver_names()) or 'none'}")
    if len(entries) > 1:
        offers = " and ".join(sorted(f"{_distribution(e)} [{e.value}]" for e in entries))
        raise DuplicateDriver(name, "", f"offered by {offers}; uninstall one of them")
    return check_driver(name, _distribution(entries[0]), _import(entries[0]))


def _import(entry: importlib.metadata.EntryPoint) -> object:
    origin = _distribution(entry)
    try:
        return entry.load()
    except ModuleNotFoundError as error:
        raise MissingDependency(entry.name, origin, f"module {error.name!r} is not installed") from error
    except Exception as error:  # a vendor's module may raise anything while it is imported
        cause = f"importing {entry.value!r} raised {type(error).__name__}: {error}"
        raise BrokenDriver(entry.name, origin, cause) from error


def check_driver(name: str, origin: str, found: object) -> type[AnyDriver]:
    """Return `found` if it is a complete driver class of an SPI version that we speak."""
    if not (inspect.isclass(found) and issubclass(found, Driver) and issubclass(found, _BASES)):
        bases = ", ".join(cls.__name__ for cls in KINDS.values())
        raise BrokenDriver(name, origin, f"{found!r} is not a subclass of {bases}")
    _check_spi(name, origin, found)
    missing = sorted(getattr(found, "__abstractmethods__", ()))
    if missing:
        raise BrokenDriver(name, origin, f"{found.__name__} lacks the methods {', '.join(missing)}")
    _check_options(name, origin, found)
    return found


def _check_options(name: str, origin: str, cls: type[AnyDriver]) -> None:
    options = getattr(cls, "Options", None)
    if not dataclasses.is_dataclass(options):
        raise BrokenDriver(name, origin, f"{cls.__name__}.Options must be a dataclass of option() fields")
    try:
        options_schema(cls.Options)
    except (TypeError, NameError) as error:
        raise BrokenDriver(name, origin, f"{cls.__name__}.Options: {error}") from error


def _check_spi(name: str, origin: str, cls: type[AnyDriver]) -> None:
    match cls.spi:
        case (int(major), int(minor)):
            pass
        case _:
            raise BrokenDriver(name, origin, f"{cls.__name__}.spi must be two numbers, e.g. (1, 0)")
    ours = f"{SPI_VERSION[0]}.{SPI_VERSION[1]}"
    if (major, minor) > SPI_VERSION:
        cause = f"needs SPI {major}.{minor}, this Bollard has {ours}: upgrade bollard"
        raise SpiMismatch(name, origin, cause)
    if major < SPI_VERSION[0] - 1:
        cause = f"has SPI {major}.{minor}, this Bollard speaks {ours} and one major back: upgrade the driver"
        raise SpiMismatch(name, origin, cause)


def kind_of(cls: type[AnyDriver]) -> str:
    """Return the kind of a driver class: a key of `KINDS`."""
    return next(kind for kind, base in KINDS.items() if issubclass(cls, base))


def describe_drivers() -> list[DriverInfo]:
    """Return every driver with version, SPI and capabilities, or why it cannot be loaded."""
    return [describe_driver(name) for name in driver_names()]


def describe_driver(name: str) -> DriverInfo:
    """Return one driver's version, SPI and capabilities, or why it cannot be loaded."""
    origin = "registered in process" if name in _registered else ", ".join(map(_distribution, _entries(name)))
    try:
        cls = load_driver(name)
    except PluginError as error:
        return DriverInfo(name=name, distribution=origin, error=str(error))
    return DriverInfo(
        name=name,
        distribution=origin,
        kind=kind_of(cls),
        spi=".".join(map(str, cls.spi)),
        capabilities=tuple(sorted(c.value for c in cls.declared())),
    )


@contextmanager
def registered(name: str, cls: type[AnyDriver]) -> Iterator[None]:
    """Offer a driver class by name for the length of a `with` block (tests, notebooks)."""
    if name in driver_names():
        raise DuplicateDriver(name, "registered in process", "the name is already taken")
    _registered[name] = cls
    try:
        yield
    finally:
        del _registered[name]
