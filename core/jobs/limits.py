"""Which job is next: limits first, then priority, then tenants by turns, then age.

lane    queued jobs of one tenant, host, pool and priority: what hinders one hinders all, so that only
        the oldest of each lane is looked at, however long the lanes are
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ..spi.errors import InvalidArgument


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLimits:
    """How many jobs run at the same time, over all workers of a catalog; 0: as many as there are workers."""

    per_host: int = 4
    per_pool: int = 8
    per_tenant: int = 0

    def __post_init__(self) -> None:
        if min(self.per_host, self.per_pool, self.per_tenant) < 0:
            raise InvalidArgument("limits of jobs must not be negative")


@dataclass(frozen=True, slots=True)
class Lane:
    """Who waits alike; `first` is the number of the oldest job."""

    tenant: str
    host: str
    pool: str
    priority: int
    first: int


@dataclass(frozen=True, slots=True)
class Running:
    """A job that has a worker, as far as limits go."""

    tenant: str
    host: str
    pool: str


def in_order(lanes: Iterable[Lane], running: Iterable[Running], limits: JobLimits) -> list[Lane]:
    """Return the lanes whose first job may run now; the one whose turn it is comes first."""
    busy = list(running)
    tenants = Counter(job.tenant for job in busy)
    hosts = Counter(job.host for job in busy)
    pools = Counter(job.pool for job in busy)

    def may_run(lane: Lane) -> bool:
        return (
            _has_room(lane.host, hosts, limits.per_host)
            and _has_room(lane.pool, pools, limits.per_pool)
            and not (limits.per_tenant and tenants[lane.tenant] >= limits.per_tenant)
        )

    return sorted(filter(may_run, lanes), key=lambda lane: (-lane.priority, tenants[lane.tenant], lane.first))


def _has_room(name: str, used: Counter[str], limit: int) -> bool:
    """A job that burdens no host or no pool counts for none."""
    return not name or not limit or used[name] < limit
