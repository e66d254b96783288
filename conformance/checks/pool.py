"""Pool life cycle and capacity."""

from __future__ import annotations

from ...core.pool import Pool
from ...core.spi import Capability, ReportsCapacity, Unsupported
from ..lab import MIB, Lab, must, refused
from ..registry import check
from ..twins import twin_calls


@check("pool.close_twice", rule="drv.close-twice")
def check_close_twice(fresh_pool: Pool) -> None:
    """A pool can be opened beside another one, and closed twice."""
    must(fresh_pool.info.identity, "open() returned no identity for the pool")
    fresh_pool.close()
    fresh_pool.close()


@check("pool.same_identity", rule="pool.open-typed")
def check_same_identity(lab: Lab, fresh_pool: Pool) -> None:
    """Opening the same pool twice gives the same identity."""
    first, second = lab.pool.info.identity, fresh_pool.info.identity
    must(first == second, f"the pool calls itself {first!r} and then {second!r}")


@check("pool.capacity_sane", rule="cap.sane", needs=(ReportsCapacity,))
def check_capacity_sane(lab: Lab) -> None:
    """Capacity is in bytes, and 0 <= used <= total."""
    now = lab.pool.capacity()
    must(0 <= now.used <= now.total, f"used {now.used} is not between 0 and total {now.total}")
    must(now.provisioned >= 0, f"provisioned is negative: {now.provisioned}")
    must(now.total >= 64 * MIB, f"total is {now.total}: is that bytes?")


@check("pool.undeclared_refused", rule="any.taxonomy")
def check_undeclared_refused(lab: Lab) -> None:
    """What the driver does not declare is refused before the backend is touched."""
    native = lab.pool.capabilities().native
    for capability, call in twin_calls(lab).items():
        if capability not in native:
            with refused(Unsupported):
                call()
    must(Capability.ACCESS_CONTROL not in native or lab.pool.managed, "a host pool grants no access")
