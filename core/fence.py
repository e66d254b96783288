"""The orchestrator's face of fencing: open a host's fence by driver name, ask it under a deadline.

with closing(open_fence("host-7", "ipmi", {...})) as fence:
    fence.power_off()          returns: the host is off. Raises: take it as alive
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from .checks import check_name
from .events import Observer, ignore
from .invoke import Invoker
from .plugins import load_driver
from .redact import Redactor, secrets_of
from .spi import DEFAULT_TIMEOUT, Call, FenceDriver, InvalidArgument, PowerState, parse_options


class Fence:
    """One host's fence behind one driver instance."""

    def __init__(
        self,
        name: str,
        driver: FenceDriver[Any],
        *,
        observe: Observer = ignore,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        check_name("fence.name", name)
        self.name = name
        self.driver = driver
        self._invoker = Invoker(redact=Redactor(secrets_of(driver.options)), observe=observe, sleep=sleep)

    def power_state(self, call: Call | None = None) -> PowerState:
        """Return one reading of the chassis power."""
        return self._invoker.run("fence.state", (), _timed(call), self.driver.power_state)

    def power_off(self, call: Call | None = None) -> None:
        """Cut the power, and see to it that it is off.

        Raises:
            StorageError: whichever: the host must be taken as alive.
        """
        self._invoker.run("fence.off", (self.name,), _timed(call), self.driver.power_off)

    def power_on(self, call: Call | None = None) -> None:
        """Switch on."""
        self._invoker.run("fence.on", (self.name,), _timed(call), self.driver.power_on)

    def close(self) -> None:
        """Close the driver; repeatable."""
        self._invoker.run("fence.close", (), _timed(None), lambda _: self.driver.close())


def _timed(call: Call | None) -> Call:
    return call or Call.within(DEFAULT_TIMEOUT)


def open_fence(name: str, driver: str, options: Mapping[str, Any], *, observe: Observer = ignore) -> Fence:
    """Load a fence driver by name and validate its options. Nothing is sent before the first question.

    Raises:
        PluginError: the driver cannot be loaded.
        StorageError: an option is bad.
    """
    return Fence(name, fence_driver(driver, options), observe=observe)


def fence_driver(name: str, options: Mapping[str, Any]) -> FenceDriver[Any]:
    """Return a bare fence driver, for who drives it without retries: the suite. The caller closes it.

    Raises:
        PluginError: it cannot be loaded.
        InvalidArgument: it is of another kind, or an option is bad.
    """
    cls = load_driver(name)
    if not issubclass(cls, FenceDriver):
        raise InvalidArgument(f"driver {name!r} is not a fence driver")
    return cls(parse_options(cls.Options, options))
