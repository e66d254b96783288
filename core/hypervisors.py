"""Open a hypervisor by its driver's name, as `open_pool` does a pool."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from .checks import check_name
from .events import Observer, ignore
from .plugins import load_driver
from .spi import HypervisorDriver, InvalidArgument, parse_options
from .vm_snapshots.hypervisor import Hypervisor


def open_hypervisor(
    name: str, driver: str, options: Mapping[str, Any], *, observe: Observer = ignore
) -> Hypervisor:
    """Load a hypervisor driver by name and validate its options; the caller closes it.

    Raises:
        PluginError: the driver cannot be loaded.
        StorageError: an option is bad, or the hypervisor does not answer.
    """
    check_name("hypervisor.name", name)
    cls = load_driver(driver)
    if not issubclass(cls, HypervisorDriver):
        raise InvalidArgument(f"driver {driver!r} is not a hypervisor driver")
    instance = cls(parse_options(cls.Options, options))
    try:
        return Hypervisor(name, instance, observe=observe)
    except BaseException:
        with suppress(Exception):  # why it did not answer matters more
            instance.close()
        raise
