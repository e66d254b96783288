"""An orchestrator's volumes on a simulated array and a simulated cluster, and processes that die at a step.

site.process()          a process of the fleet: its own lease, its own connections
process.dies_at(7)      the 7th border between two steps of it is its last
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from bollard.core.catalog import Catalog
from bollard.core.catalog.holds import Grant, HoldState, Introduction
from bollard.core.catalog.volumes import VolumeRecord
from bollard.core.catalog.works import WorkRow
from bollard.core.pool import Pool
from bollard.core.service.owners import Lease, Owner
from bollard.core.service.volumes import VolumeService
from bollard.core.service.volumes_attach import VolumeAttachments
from bollard.core.service.volumes_records import VolumeRecords
from bollard.core.service.works import Works
from bollard.core.spi import Call, Host, ManagedPrimaryDriver, parse_options
from bollard.core.vm_snapshots.hypervisor import Hypervisor
from bollard.drivers.hypervisor.driver import SimulatedHypervisorDriver
from bollard.drivers.hypervisor.options import SimulatedHypervisorOptions
from bollard.drivers.primary.array import ArrayDriver
from bollard.simulators.array import ArraySimulator
from bollard.simulators.hypervisor import HypervisorSimulator
from bollard.transfer_objects.ids import HostId, VmId
from bollard.transfer_objects.secret import Secret
from vm_deaths import Death, Mortal

GIB = 2**30
VM = VmId("vm-1")
H1 = Host(
    id=HostId("h1"),
    name="h1",
    iqn="iqn.2026-01.org.example:h1",
    chap_user="user-h1",
    chap_secret=Secret("correct-horse-battery"),
)
LEASE = Lease(term=3600, beat=0)  # the dead are told by their locks, however slow the machine is
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the CA certificates take 100 ms to load

_POOL = ("create_volume", "delete_volume", "resize_volume", "grant", "revoke", "get_volume")
_TEMPLATES = ("prepare_template", "seal_template", "create_volume_from_template", "evict_template")
_HYPERVISOR = ("introduce", "forget", "attach", "detach", "vm_disks")


def call() -> Call:
    """A minute."""
    return Call.within(60)


class Backends:
    """What a process has open."""

    def __init__(self, pool: Pool, hypervisor: Hypervisor) -> None:
        self._pool, self._hypervisor = pool, hypervisor
        self.broken: set[str] = set()

    def pool(self, name: str = "") -> Pool:
        """The array."""
        assert name == "gold"
        return self._pool

    def hypervisor(self, name: str = "") -> Hypervisor:
        """The cluster."""
        assert name == "cluster"
        return self._hypervisor


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where everything is: what another process needs to be told."""

    home: str
    url: str
    array: dict[str, str]
    cluster: str

    def open_pool(self) -> Pool:
        """Open the array."""
        options = parse_options(ArrayDriver.Options, self.array)
        return Pool("gold", ArrayDriver(options), sleep=lambda _: None)


class Process:
    """One process of the fleet."""

    def __init__(self, site: Place, connected: Process | None = None) -> None:
        self._connected = connected
        if connected is None:
            self.catalog = Catalog(site.url)
            self.pool = site.open_pool()
            self.driver = SimulatedHypervisorDriver(SimulatedHypervisorOptions(url=site.cluster))
        else:
            self.catalog, self.pool, self.driver = connected.catalog, connected.pool, connected.driver
        self.owner = Owner(self.catalog, Path(site.home) / "owners", lease=LEASE)
        self.works = Works(self.catalog, self.owner)
        self.site = Backends(self.pool, Hypervisor("cluster", self.driver, sleep=lambda _: None))
        self.volumes = VolumeService(
            records=VolumeRecords(catalog=self.catalog, works=self.works), site=self.site
        )
        self.attachments = VolumeAttachments(service=self.volumes)

    @contextmanager
    def dies_at(self, step: int) -> Iterator[Mortal]:
        """Let it die at its n-th border, if it gets there; then nothing of it runs, its locks are free."""
        mortal = Mortal(step)
        with pytest.MonkeyPatch.context() as patch:
            for thing, names in ((self.pool.driver, _POOL + _TEMPLATES), (self.driver, _HYPERVISOR)):
                for name in names:
                    patch.setattr(thing, name, mortal.step(getattr(thing, name)))
            patch.setattr(self.catalog, "transaction", _bordered(mortal, self.catalog.transaction))
            try:
                yield mortal
            except Death:
                assert mortal.dead
        if mortal.dead:
            self.owner._file.close()

    def close(self) -> None:
        """End in order; a dead one has nothing to end."""
        if not self.owner._file.closed:
            self.owner.close()
        if self._connected is not None:
            return
        self.pool.close()
        self.driver.close()
        self.catalog.close()


def _bordered(mortal: Mortal, transaction: Callable[..., Any]) -> Callable[..., Any]:
    @contextmanager
    def both(**kwargs: Any) -> Iterator[Any]:
        mortal.border()
        with transaction(**kwargs) as session:
            yield session
        mortal.border()

    return both


class Site:
    """The array, the cluster and the catalog; use as a context manager."""

    def __init__(self, home: Path, url: str) -> None:
        self.home, self.url = home, url
        self._stack = ExitStack()

    def __enter__(self) -> Site:
        with self._stack:
            self.array = self._stack.enter_context(
                ArraySimulator(self.home / "array", pools={"gold": GIB}, job_seconds=0.0)
            )
            self.cluster = self._stack.enter_context(HypervisorSimulator(self.home / "cluster"))
            self.http = self._stack.enter_context(
                httpx.Client(verify=NO_TLS, base_url=self.cluster.url, timeout=30)
            )
            self.http.put("/hosts/h1", json={"initiator": H1.iqn}).raise_for_status()
            self.http.put(f"/vms/{VM}", json={"host": "h1"}).raise_for_status()
            self.showing = SimulatedHypervisorDriver(SimulatedHypervisorOptions(url=self.cluster.url))
            self._stack.callback(self.showing.close)
            self.looking = self._stack.enter_context(self.place.open_pool())
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @property
    def place(self) -> Place:
        """What another process needs to be told."""
        array = {
            "url": self.array.url,
            "username": self.array.admin_user,
            "password": self.array.admin_password,
            "pool": "gold",
            "ca": str(self.array.ca),
        }
        return Place(home=str(self.home), url=self.url, array=array, cluster=self.cluster.url)

    def process(self, connected: Process | None = None) -> Process:
        """Start one, which is closed with the site; with the connections of another one it costs less."""
        process = Process(self.place, connected)
        self._stack.callback(process.close)
        return process

    def truth(self) -> dict[str, Any]:
        """What array and cluster have, below all records."""
        volumes = {v.id: v.size for v in self.looking.volumes.list()}
        assert isinstance(self.looking.driver, ManagedPrimaryDriver)
        grants = {v: [g.host for g in self.looking.volumes.grants(v)] for v in volumes}
        known = [one["id"] for one in self.http.get("/hosts/h1/objects").json()]
        disks = [str(one.object_id) for one in self.showing.vm_disks(VM, call())]
        return {"volumes": volumes, "grants": grants, "known": sorted(known), "disks": sorted(disks)}

    def told(self, process: Process) -> dict[str, Any]:
        """The same as the records have it; what is under way as well, which must be nothing."""
        with process.catalog.reading() as session:
            records = session.scalars(select(VolumeRecord)).all()
            there = [r for r in records if r.state not in ("Expunged", "Error")]
            assert not session.scalars(select(WorkRow)).all()
            assert {r.state for r in records} <= {"Ready", "Expunged", "Error"}
            kinds: tuple[type[Any], ...] = (Grant, Introduction)
            held = {
                kind: session.scalars(select(kind).where(kind.state != HoldState.RELEASED)).all()
                for kind in kinds
            }
        assert all(row.state is HoldState.HELD for rows in held.values() for row in rows)
        grants: dict[str, list[str]] = {r.id: [] for r in there}
        for row in held[Grant]:
            grants[row.volume].append(row.host)
        return {
            "volumes": {r.id: r.size for r in there},
            "grants": grants,
            "known": sorted(row.volume for row in held[Introduction]),
            "disks": sorted(r.id for r in there if r.vm == VM),
        }
