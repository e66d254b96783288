"""A hypervisor as core uses it: its driver, with retries, deadlines, redaction and capability refusal."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from ...transfer_objects.ids import VmId
from ..events import Observer, ignore
from ..invoke import Invoker
from ..redact import Redactor, secrets_of
from ..spi import DEFAULT_TIMEOUT, Call, Capability, HypervisorDriver, Unsupported, VmState

T = TypeVar("T")


class Hypervisor:
    """One hypervisor connection.

    Args:
        name: what messages call it.
        timeout: seconds for a call that is given no deadline of its own.
    """

    def __init__(
        self,
        name: str,
        driver: HypervisorDriver[Any],
        *,
        observe: Observer = ignore,
        timeout: float = DEFAULT_TIMEOUT,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = name
        self.driver = driver
        self._timeout = timeout
        self._invoker = Invoker(redact=Redactor(secrets_of(driver.options)), observe=observe, sleep=sleep)
        self._lacking = self.run("hypervisor.capabilities", driver.unavailable)

    def run(self, operation: str, act: Callable[[Call], T], call: Call | None = None) -> T:
        """Run one driver call with what core adds to it.

        No lock is taken: a thaw must never wait for the call that has the guest frozen. Tasks of one VM
        exclude each other as a whole (`VmLocks`).
        """
        return self._invoker.run(operation, (), call or Call.within(self._timeout), act)

    def has(self, mixin: type) -> bool:
        """Tell whether it can do what the mix-in stands for."""
        capability: Capability = mixin.provides  # type: ignore[attr-defined]  # every mix-in has it
        return isinstance(self.driver, mixin) and capability not in self._lacking

    def close(self) -> None:
        """Close the driver; repeatable."""
        self.run("hypervisor.close", lambda _: self.driver.close())

    def require(self, mixin: type[T]) -> T:
        """Return the driver as one of the capability mix-ins.

        Raises:
            Unsupported: it has not got it; not applied.
        """
        if isinstance(self.driver, mixin) and self.has(mixin):
            return self.driver
        capability: Capability = mixin.provides  # type: ignore[attr-defined]  # every mix-in has it
        why = self._lacking.get(capability, "the driver does not declare it")
        raise Unsupported(f"hypervisor {self.name!r} has no capability {capability.value!r}: {why}")

    def vm_state(self, vm: VmId, call: Call) -> VmState:
        """Return the VM's power state."""
        return self.run("vm.state", lambda c: self.driver.vm_state(vm, c), call)
