"""The orchestrator's face of primary storage: open a pool, get clients for what lives on it.

    pool = open_pool("ssd-1", "array", {...})
    pool.volumes.create(VolumeSpec(...))          pool.snapshots.create(volume, snapshot)
    pool.capabilities()                           pool.access  (reads and writes as a host)

The clients own validation, deadlines, retries, locks, capability refusal and redaction; a driver
sees only requests that are worth sending.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self, TypeVar

from ..transfer_objects.secret import Secret
from .checks import check_name
from .events import Observer, ignore
from .invoke import Invoker
from .limits import Limits, Throttle
from .plugins import load_driver
from .redact import Redactor, secrets_of
from .snapshot_client import SnapshotClient
from .spi import (
    DEFAULT_TIMEOUT,
    Call,
    Capability,
    Capacity,
    InvalidArgument,
    ManagedPrimaryDriver,
    PoolInfo,
    PrimaryDriver,
    ReportsCapacity,
    StorageError,
    Traits,
    Unsupported,
    cloudstack_caps,
    parse_options,
)
from .vm_snapshot_client import VmSnapshotClient
from .volume_client import VolumeClient

T = TypeVar("T")

# Held by every call of a driver that takes one at a time. No object has this id: it has a space.
_THE_DRIVER = "the driver"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolCapabilities:
    """What a pool can do.

    Attributes:
        native: effective capabilities.
        unavailable: declared by the driver but not here and now, each with its reason.
        caps: CloudStack's map for listStoragePools.
    """

    native: frozenset[Capability]
    unavailable: Mapping[Capability, str]
    caps: Mapping[str, str]


class Pool:
    """One primary storage pool behind one driver instance. Use as a context manager, or `close()`."""

    def __init__(
        self,
        name: str,
        driver: PrimaryDriver[Any],
        *,
        observe: Observer = ignore,
        timeout: float = DEFAULT_TIMEOUT,
        sleep: Callable[[float], None] = time.sleep,
        throttle: Throttle | None = None,
    ) -> None:
        check_name("pool.name", name)
        self.name = name
        self.driver = driver
        self.managed = isinstance(driver, ManagedPrimaryDriver)
        self.timeout = timeout
        self.throttle = throttle or Throttle()
        self._invoker = Invoker(
            redact=Redactor(secrets_of(driver.options)), observe=observe, sleep=sleep, throttle=self.throttle
        )
        self.info: PoolInfo = self.run("pool.open", (), driver.open)
        self._capabilities = self._effective()
        self.traits: Traits = self.run("pool.traits", (), lambda _: driver.traits())
        self.volumes = VolumeClient(self)
        self.snapshots = SnapshotClient(self)
        self.vm_snapshots = VmSnapshotClient(self)

    def run(
        self,
        operation: str,
        keys: tuple[str, ...],
        act: Callable[[Call], T],
        call: Call | None = None,
        *,
        secrets: Sequence[Secret] = (),
    ) -> T:
        """Run one driver call with everything that core adds to it; `secrets` are arguments of it."""
        invoker = self._invoker
        if secrets:
            invoker = replace(invoker, redact=invoker.redact.and_of(secrets))
        also_lock = () if self._concurrent() else (_THE_DRIVER,)
        return invoker.run(operation, keys, call or Call.within(self.timeout), act, also_lock=also_lock)

    def stream(self, items: Iterator[T], call: Call) -> Iterator[T]:
        """Pass on what a driver streams, with its errors typed and redacted."""
        return self._invoker.stream(items if self._concurrent() else self._one_by_one(items, call), call)

    def _one_by_one(self, items: Iterator[T], call: Call) -> Iterator[T]:
        """Hold the driver for each step of its stream, but not while the consumer works on the item."""
        while True:
            with self._invoker.locks.holding((_THE_DRIVER,), call):
                try:
                    item = next(items)
                except StopIteration:
                    return
            yield item

    def _concurrent(self) -> bool:
        traits = getattr(self, "traits", None)
        return traits is None or traits.concurrent_calls

    def _effective(self) -> PoolCapabilities:
        declared = type(self.driver).declared()
        lacking = self.run("pool.capabilities", (), self.driver.unavailable)
        native = declared - set(lacking)
        return PoolCapabilities(
            native=native,
            unavailable={c: why for c, why in lacking.items() if c in declared},
            caps=cloudstack_caps(native, managed=self.managed),
        )

    def capabilities(self) -> PoolCapabilities:
        """Return what the pool can do."""
        return self._capabilities

    def require(self, mixin: type[T]) -> T:
        """Return the driver as one of the capability mix-ins, or refuse before it is touched.

        Raises:
            Unsupported: outcome not applied.
        """
        capability: Capability = mixin.provides  # type: ignore[attr-defined]  # every mix-in has it
        if isinstance(self.driver, mixin) and capability in self._capabilities.native:
            return self.driver
        why = self._capabilities.unavailable.get(capability, "the driver does not declare it")
        raise Unsupported(f"pool {self.name!r} has no capability {capability.value!r}: {why}")

    def capacity(self, call: Call | None = None) -> Capacity:
        """Return how full the pool is, in bytes."""
        driver = self.require(ReportsCapacity)
        return self.run("pool.capacity", (), driver.capacity, call)

    def close(self) -> None:
        """Close the driver; repeatable."""
        self.run("pool.close", (), lambda _: self.driver.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(*([StorageError] if error else [])):  # what went wrong inside matters more
            self.close()


def open_pool(
    name: str,
    driver: str,
    options: Mapping[str, Any],
    *,
    observe: Observer = ignore,
    timeout: float = DEFAULT_TIMEOUT,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> Pool:
    """Load a primary storage driver by name, validate its options and open the pool.

    Args:
        name: what messages call the pool.
        driver: an entry-point name, see `bollard drivers`.
        options: see `bollard drivers --options NAME`; secrets as text, {"env": …} or {"file": …}.
        observe: called with an `Event` at each step of each operation.
        timeout: seconds for each operation that is given no call of its own.
        limits: what this process may use of the pool.

    Raises:
        PluginError: the driver cannot be loaded.
        StorageError: an option is bad, or the pool cannot be opened.
    """
    cls = load_driver(driver)
    if not issubclass(cls, PrimaryDriver):
        raise InvalidArgument(f"driver {driver!r} is not a primary storage driver")
    instance = cls(parse_options(cls.Options, options))
    try:
        return Pool(name, instance, observe=observe, timeout=timeout, throttle=Throttle(limits))
    except BaseException:
        with suppress(Exception):  # why it did not open matters more
            instance.close()
        raise
